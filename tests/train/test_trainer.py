"""The train job on Ray Train: stages in their order, a killed worker, any number of workers, a second run."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from gamengen.checkpoint import Model
from gamengen.train import trainer
from tests.conftest import load_tiny

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


def _run(made, folder: Path, *overrides: str, models: tuple[str, ...] = ()):
    """A run of its own with the shared play, latents and the given models."""
    config = load_tiny(folder, *overrides)
    for part in ("gameplay", "latents", *models):
        shutil.copytree(f"{made.folder}/{part}", f"{config.folder}/{part}")
    return config


def test_the_stages_in_their_order_and_then_nothing_left(made, tmp_path: Path) -> None:
    config = _run(made, tmp_path)
    for stage, folder in trainer.FOLDERS.items():
        figures = trainer.train(config, stage)
        assert figures["stage"] == stage and not figures["resumed"]
        model = Model.from_pretrained(f"{config.folder}/{folder}")
        assert (model.denoiser is None) == (stage == "autoencoder")
        if model.denoiser is not None:
            assert (
                model.sampler().timesteps == (config.fast_sampler if stage == "distill" else config.sampler).timesteps
            )
            assert len(model.start_frames) > 1
        json.dumps(figures)
    begun = time.monotonic()
    assert all(trainer.train(config, stage)["resumed"] for stage in trainer.FOLDERS)
    assert time.monotonic() - begun < 15


def test_what_is_missing_is_one_line(made, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no shards in .*gameplay"):
        trainer.train(load_tiny(tmp_path / "empty"), "autoencoder")
    config = _run(made, tmp_path / "no-teacher", models=("autoencoder",))
    with pytest.raises(ValueError, match=r"game\.json.*denoiser.*Train the model first"):
        trainer.train(config, "distill")
    with pytest.raises(ValueError, match="unknown stage 'decoder'"):
        trainer.train(config, "decoder")
    lanes = _run(made, tmp_path / "lanes", "train.num_workers=3", models=("autoencoder",))
    with pytest.raises(ValueError, match="3 workers"):
        trainer.train(lanes, "denoiser")
