"""Encoding: shard by shard, what is done is not done again, and another autoencoder's latents are made anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gamengen import encode as phase
from gamengen.checkpoint import Model
from gamengen.data import shards
from gamengen.models import autoencoders
from tests.conftest import load_tiny

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def run(made, tmp_path: Path):
    """A run with play and an autoencoder, and no latents yet."""
    config = load_tiny(tmp_path)
    for part in ("gameplay", "autoencoder"):
        shutil.copytree(f"{made.folder}/{part}", f"{config.folder}/{part}")
    return config


def test_latents_are_the_autoencoder_s_and_the_rest_is_kept(run) -> None:
    summary = phase.encode(run)
    assert summary["shards_encoded"] == summary["shards"] == 5
    game = run.game_spec()
    names = [shard.rpartition("/")[2] for shard in shards.find(f"{run.folder}/gameplay", game)]
    assert [shard.rpartition("/")[2] for shard in shards.find(f"{run.folder}/latents", game)] == names
    autoencoder = Model.from_pretrained(f"{run.folder}/autoencoder").autoencoder
    total = 0
    for name in names:
        frames = list(shards.chunks(f"{run.folder}/gameplay/{name}"))
        latents = list(shards.chunks(f"{run.folder}/latents/{name}"))
        assert len(frames) == len(latents)
        for chunk, coded in zip(frames, latents, strict=True):
            with torch.inference_mode():
                expected = autoencoder.encode(autoencoders.to_images(torch.tensor(chunk.frames))).numpy()
            assert coded.frames.dtype == np.float16
            assert np.square(coded.frames - expected).mean() < 1e-3  # of unit variance: bfloat16, where it is fastest
            total += len(chunk.frames)
            for key, value in vars(chunk).items():
                if key != "frames":
                    assert np.array_equal(value, vars(coded)[key]), key
    assert summary["frames_encoded"] == total


def test_a_second_run_does_what_is_left(run) -> None:
    phase.encode(run)
    folder = Path(run.folder, "latents")
    (folder / "made-2.parquet").unlink()
    (folder / "made-4.parquet").write_bytes(b"half")
    kept = (folder / "made-1.parquet").stat().st_mtime_ns
    assert phase.encode(run)["shards_encoded"] == 2
    assert (folder / "made-1.parquet").stat().st_mtime_ns == kept
    assert phase.encode(run)["shards_encoded"] == 0
    assert len(shards.find(str(folder), run.game_spec())) == 5


def test_latents_go_with_their_source(run) -> None:
    phase.encode(run)
    Path(run.folder, "gameplay", "made-2.parquet").rename(Path(run.folder, "gameplay", "made-9.parquet"))
    assert phase.encode(run)["shards_encoded"] == 1
    assert not Path(run.folder, "latents", "made-2.parquet").exists()
    assert Path(run.folder, "latents", "made-9.parquet").exists()


def test_another_autoencoder_s_latents_are_made_anew(run) -> None:
    phase.encode(run)
    model = Model.from_pretrained(f"{run.folder}/autoencoder")
    with torch.no_grad():
        model.autoencoder.linear_encoder.weight.mul_(2)
    model.save_pretrained(f"{run.folder}/autoencoder")
    assert phase.encode(run)["shards_encoded"] == 5


def test_what_is_missing_or_does_not_fit_is_one_line(run) -> None:
    with pytest.raises(ValueError, match="holds chrome_dino at 256x128"):
        phase.encode(load_tiny(run.storage, "game.options.downscale=1", "autoencoder.options.margins=[48, 48]"))
    shutil.rmtree(f"{run.folder}/autoencoder")
    with pytest.raises(ValueError, match=r"game\.json.*autoencoder"):
        phase.encode(run)
    shutil.rmtree(f"{run.folder}/gameplay")
    with pytest.raises(ValueError, match=r"no shards in .*gameplay"):
        phase.encode(run)
