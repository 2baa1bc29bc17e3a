"""Rows that only pad a frame change no figure and no picture of an evaluation."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from gamengen import config as configs
from gamengen.config import Config
from gamengen.evaluate.evaluation import evaluate
from tests.evaluate import padded_dino
from tests.evaluate.conftest import TINY, record, save_untrained

pytestmark = pytest.mark.slow
MEASURES_OF_TIME = ("seconds", "rollout_frames_per_second")


def made(folder: Path, *overrides: str) -> Config:
    """A run with held-out play and an untrained network, which is the same one whatever the padding."""
    config = configs.load("configs/quickstart.yaml", [*TINY, f"storage={folder}", *overrides])
    record(config)
    save_untrained(config, f"{config.folder}/denoiser", fast=False)
    return config


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return made(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def padded(plain: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The same play between rows of noise that the autoencoder does not code."""
    top, bottom = plain.autoencoder.options["margins"]
    margins = [top + padded_dino.ABOVE, bottom + padded_dino.BELOW]
    more = [f"game.name={padded_dino.__name__}", f"autoencoder.options.margins={margins}"]
    return made(tmp_path_factory.mktemp("padded"), *more)


def figures(summary: dict) -> dict:
    return {key: value for key, value in summary.items() if key not in (*MEASURES_OF_TIME, "report", "resumed")}


def test_padding_changes_no_figure(plain: Config, padded: Config) -> None:
    assert padded.game_spec().height == plain.game_spec().height + padded_dino.ABOVE + padded_dino.BELOW
    expected, measured = figures(evaluate(plain)), figures(evaluate(padded))
    assert measured == expected and measured["psnr_copy_last"] is not None


def test_padding_is_in_no_film(plain: Config, padded: Config) -> None:
    folder = Path(evaluate(padded)["report"]).parent
    for name, width in (("side_by_side", 2 * 256 + 8), ("rollout_normal", 256)):
        with av.open(str(folder / f"{name}.mp4")) as film:
            frame = next(film.decode(video=0))
        assert (frame.height, frame.width) == (plain.game_spec().height, width)
