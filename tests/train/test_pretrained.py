"""The stages with Stable Diffusion's networks, small: an autoencoder taken as it is, a denoiser that goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from gamengen.checkpoint import Architecture, Model
from gamengen.config import Config
from gamengen.data import shards
from gamengen.encode import Encoder
from gamengen.engine import GameEngine
from gamengen.models.denoisers import unet
from gamengen.train import autoencoder as autoencoder_stage
from gamengen.train import denoiser as stage
from gamengen.train.loop import Objective, fit
from tests.conftest import load_tiny
from tests.models.test_pretrained import CODER, UNET, folder  # noqa: F401 (a fixture)

CPU = torch.device("cpu")


@pytest.fixture
def config(folder: Path, recorded: Config) -> Config:  # noqa: F811
    config = load_tiny(
        recorded.storage, "train.autoencoder.steps=0", "train.denoiser.steps=3", "train.denoiser.optimizer=adafactor"
    )
    coder, denoiser = config.autoencoder, config.denoiser
    options = {"pretrained": str(folder)}
    return dataclasses.replace(
        config,
        autoencoder=dataclasses.replace(coder, name="sd", options=CODER | options),
        denoiser=dataclasses.replace(denoiser, name="unet", options=UNET | options),
    )


def _trained(objective: Objective, settings) -> torch.nn.Module:
    objective.network.load_state_dict(fit(objective, settings, device=CPU))
    return objective.network


def test_from_pretrained_weights_to_a_played_frame(config: Config, tmp_path: Path) -> None:
    game, gameplay = config.game_spec(), shards.find(f"{config.folder}/gameplay")
    coder = _trained(autoencoder_stage.objective(config, game, gameplay), config.train.autoencoder).autoencoder
    autoencoder_stage.set_statistics(coder, gameplay)
    original = AutoencoderKL.from_pretrained(f"{config.autoencoder.options['pretrained']}/vae", low_cpu_mem_usage=False)
    assert all(torch.equal(value, coder.vae.state_dict()[name]) for name, value in original.state_dict().items())
    assert coder.scaling_factor.item() == pytest.approx(0.18215)
    model = Model(game, Architecture("sd", config.autoencoder.options), coder)

    config = dataclasses.replace(config, storage=str(tmp_path))
    model.save_pretrained(f"{config.folder}/autoencoder")
    target = Path(config.folder) / "gameplay" / Path(gameplay[0]).name
    target.parent.mkdir()
    target.write_bytes(Path(gameplay[0]).read_bytes())
    Encoder(f"{config.folder}/autoencoder", 8, use_gpu=False)({"shard": str(target)})

    network = _trained(
        stage.objective(config, game, shards.find(f"{config.folder}/latents", game)), config.train.denoiser
    )
    assert isinstance(network, unet.Denoiser)
    assert network.unet.conv_in.weight[:, 4:].any(), "the context's part began at zero and learns"
    dataclasses.replace(
        model,
        denoiser_architecture=Architecture("unet", config.denoiser.options),
        denoiser=network,
        context_length=config.denoiser.context_length,
        scheduler=stage.scheduler_settings(config),
    ).save_pretrained(f"{config.folder}/denoiser")
    engine = GameEngine.from_pretrained(f"{config.folder}/denoiser")  # without the folder of the pretrained weights
    frames = next(shards.episodes([str(target)])).frames[None, :6]
    generated, _ = engine.step(engine.begin(frames, [[0] * 5], [1]), [1])
    assert generated.shape == (1, game.height, game.width, 3) and generated.std() > 0
