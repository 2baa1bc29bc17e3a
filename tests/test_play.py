"""Which model `gamengen play` takes, and that every one in `gamengen/weights` can be played and says what it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gamengen import play
from gamengen.engine import GameEngine
from tests.conftest import ROOT


@pytest.fixture
def weights(model_folder: str, tmp_path: Path) -> Path:
    shutil.copytree(model_folder, tmp_path / "chrome_dino" / "denoiser")
    for name in ("chrome_dino", "doom"):
        shutil.copytree(model_folder, tmp_path / name / "distilled")
    (tmp_path / "half" / "denoiser").mkdir(parents=True)  # without its game.json, which is written last
    return tmp_path


def test_a_game_s_model_is_found(weights: Path) -> None:
    assert play.shipped(weights) == ["chrome_dino", "doom"]
    assert play.find("chrome_dino", weights=weights) == f"{weights}/chrome_dino/denoiser"
    assert play.find("chrome_dino", "distilled", weights) == f"{weights}/chrome_dino/distilled"
    assert play.find("doom", weights=weights) == f"{weights}/doom/distilled"


def test_any_model_folder_is_taken(model_folder: str, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert play.find("doom", model_folder, weights) == model_folder
    monkeypatch.chdir(weights / "doom")
    assert play.find("chrome_dino", "../doom/distilled", weights) == f"{weights}/doom/distilled"


@pytest.mark.parametrize(
    ("game", "model", "expected"),
    [
        ("tetris", "", "no weights here of game 'tetris'; expected one of chrome_dino, doom. Train your own"),
        ("half", "", "expected one of chrome_dino, doom"),
        ("doom", "denoiser", "no weights here of game 'doom', model 'denoiser'"),
        ("doom", "distiled", "model, got 'distiled'; expected denoiser, distilled or the folder"),
    ],
)
def test_what_is_not_there_is_one_line(weights: Path, game: str, model: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        play.find(game, model, weights)
    assert "\n" not in str(caught.value)


def test_a_checkout_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"expected some in {tmp_path}, where none are. Train your own"):
        play.find("chrome_dino", weights=tmp_path)


def test_the_command_ends_with_one_line_before_anything_starts() -> None:
    command = [sys.executable, "-m", "jobs.play", "game=tetris"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: no weights here of game 'tetris'") and len(ended.stderr.splitlines()) == 1


def test_every_model_that_is_shipped_plays_and_has_a_card_with_figures() -> None:
    total = sum(file.stat().st_size for file in play.WEIGHTS.rglob("*") if file.is_file())
    assert total <= 60e6, "the checkout is to stay small"
    for file in sorted(play.WEIGHTS.glob("*/*/game.json")):
        engine = GameEngine.from_pretrained(str(file.parent))
        first, state = engine.reset(starts=[0], seeds=[1])
        for _ in range(5):
            frames, state = engine.step(state, [engine.game.num_actions - 1])
        assert frames.shape == first.shape and (frames != first).any() and frames.std() > 1, file
        card = (file.parent / "README.md").read_text()
        assert re.search(r"psnr\D*\d+\.\d+", card, re.IGNORECASE), f"no figures in {file.parent}/README.md"
