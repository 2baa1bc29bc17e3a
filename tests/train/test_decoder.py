"""Tuning the decoder: pictures get better, and no latent changes."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import torch

from gamengen.data import shards
from gamengen.models import autoencoders
from gamengen.train import decoder
from gamengen.train.autoencoder import sample_images
from gamengen.train.loop import fit

TINY_SD = {"channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4, "scaling_factor": 1.0}


@pytest.fixture
def autoencoder(recorded) -> autoencoders.Autoencoder:
    """As it is before any training: principal components, which leave something to learn."""
    built = autoencoders.build(recorded.autoencoder.name, recorded.autoencoder.options)
    built.initialise(sample_images(built, shards.find(f"{recorded.folder}/gameplay")))
    return built


def test_pictures_get_better_and_no_latent_changes(recorded, autoencoder) -> None:
    before = copy.deepcopy(autoencoder)
    objective = decoder.objective(
        recorded, recorded.game_spec(), shards.find(f"{recorded.folder}/gameplay"), autoencoder
    )

    def loss() -> float:
        with torch.no_grad():
            return sum(
                objective.loss(objective.network, batch, 0, slice(0, 4)).item()
                for batch in itertools.islice(objective.batches(100, 0, 1), 8)
            )

    first = loss()
    settings = dataclasses.replace(recorded.train.decoder, steps=80, log_every=80, checkpoint_every=80)
    weights = fit(objective, settings, device=torch.device("cpu"))
    objective.network.load_state_dict(weights)
    assert loss() < 0.96 * first
    images = torch.rand(2, 3, 80, 256)
    assert torch.equal(before.encode_raw(images), autoencoder.encode_raw(images))
    assert decoder.same_encoder(before, autoencoder)
    with torch.no_grad():
        autoencoder.linear_encoder.bias.add_(1e-3)
    assert not decoder.same_encoder(before, autoencoder)


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_stable_diffusions_decoders_can_be_tuned(kind: str) -> None:
    network = decoder.Decoding(autoencoders.build("sd", {**TINY_SD, "decoder": kind, "tiny_channels": 8}))
    autoencoder = network.autoencoder
    latents = autoencoder.encode_raw(torch.rand(1, 3, 16, 16))
    assert not latents.requires_grad
    network(latents).square().mean().backward()
    for name, parameter in autoencoder.named_parameters():
        is_decoder = name.startswith(("vae.decoder", "vae.post_quant_conv", "tiny_decoder"))
        assert (parameter.grad is not None) == parameter.requires_grad == is_decoder, name
