"""The model folders that stages write, without a cluster: whichever stage comes last, each has the tuned decoder."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gamengen import config as configs
from gamengen.checkpoint import Model
from gamengen.data import shards
from gamengen.train import trainer
from gamengen.train.loop import fit
from tests.conftest import load_tiny


def _train(config, stage: str, seed: int = 0) -> None:
    """As a worker does."""
    torch.manual_seed(seed)
    kind = "gameplay" if stage in ("autoencoder", "decoder") else "latents"
    job = {"config": configs.to_dict(config), "signature": {}, "shards": shards.find(f"{config.folder}/{kind}")}
    objective = trainer._objective(config, stage, config.game_spec(), job["shards"])
    weights = fit(objective, getattr(config.train, stage), device=torch.device("cpu"))
    trainer._write_model(config, stage, objective.network, weights, job, {"stage": stage})


def _autoencoder(config, folder: str) -> dict[str, torch.Tensor]:
    return load_file(f"{config.folder}/{folder}/autoencoder/model.safetensors")


@pytest.mark.parametrize("last", ["decoder", "distill"])
def test_models_have_the_tuned_decoder_and_the_old_encoder(made, tmp_path: Path, last: str) -> None:
    config = load_tiny(tmp_path)
    for part in ("gameplay", "latents", "autoencoder", "denoiser"):
        shutil.copytree(f"{made.folder}/{part}", f"{config.folder}/{part}")
    for stage in ("distill", "decoder") if last == "decoder" else ("decoder", "distill"):
        _train(config, stage)
    untuned, tuned = _autoencoder(config, "autoencoder"), _autoencoder(config, "decoder")
    changed = {name for name in untuned if not torch.equal(untuned[name], tuned[name])}
    assert changed and all(name.startswith(("decoder.", "linear_decoder.")) for name in changed)
    for folder in ("denoiser", "distilled"):
        weights = _autoencoder(config, folder)
        assert all(torch.equal(weights[name], tuned[name]) for name in tuned)
    model = Model.from_pretrained(f"{config.folder}/distilled")
    assert model.sampler().timesteps == config.fast_sampler.timesteps
    assert model.provenance["figures"] == {"stage": "distill"}


def test_a_decoder_of_another_encoder_is_left_alone(made, tmp_path: Path) -> None:
    config = load_tiny(tmp_path)
    for part in ("gameplay", "latents", "autoencoder", "denoiser"):
        shutil.copytree(f"{made.folder}/{part}", f"{config.folder}/{part}")
    _train(config, "autoencoder", seed=1)  # the denoiser's latents are of the one before
    before = _autoencoder(config, "denoiser")
    _train(config, "decoder")
    after = _autoencoder(config, "denoiser")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert any(not torch.equal(value, before[name]) for name, value in _autoencoder(config, "decoder").items())


def test_a_distilled_folder_holds_the_generator_alone(made, tmp_path: Path) -> None:
    config = load_tiny(tmp_path, "train.distill.matching_steps=4")
    for part in ("gameplay", "latents", "autoencoder", "denoiser"):
        shutil.copytree(f"{made.folder}/{part}", f"{config.folder}/{part}")
    _train(config, "distill")
    teacher = Model.from_pretrained(f"{config.folder}/denoiser").denoiser.state_dict()
    student = Model.from_pretrained(f"{config.folder}/distilled").denoiser.state_dict()
    assert list(teacher) == list(student)
    assert any(not torch.equal(teacher[name], student[name]) for name in itertools.islice(teacher, 100))
