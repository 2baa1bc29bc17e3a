"""The paper's tables: which rows a config asks for, how a row plays, what stands in the summary and on the page."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from gamengen import config as configs
from gamengen.checkpoint import build_sampler
from gamengen.config import Config
from gamengen.engine import GameEngine
from gamengen.evaluate import held_out, pixels, tables
from gamengen.evaluate.evaluation import evaluate
from gamengen.evaluate.groups import Groups
from gamengen.evaluate.judges import Judges
from gamengen.evaluate.tables import Row
from gamengen.train import denoiser as stage
from tests.evaluate.conftest import TINY, record, save_untrained


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run in which two players have played, with every table asked for, and another model with a longer context."""
    folder = tmp_path_factory.mktemp("tables")
    wanted = (
        "evaluate.tables={num_windows: 4, num_starts: 2, sampling_steps: [1, 8], context_lengths: [2, 1], "
        f"noise_levels: [0.3], models: {{longer: '{folder}/longer'}}}}"
    )
    config = configs.load("configs/quickstart.yaml", [*TINY, f"storage={folder}", wanted])
    record(config, agent_versions=("random", "dqn-7"))
    save_untrained(config, f"{config.folder}/denoiser", fast=False)
    longer = dataclasses.replace(config, denoiser=dataclasses.replace(config.denoiser, context_length=6))
    save_untrained(longer, f"{folder}/longer", fast=False)
    return config


@pytest.fixture(scope="module")
def summary(config: Config) -> dict:
    return evaluate(config)


def test_tables_have_their_rows_beside_the_baselines(summary: dict) -> None:
    labels = {name: [row["label"] for row in rows] for name, rows in summary["tables"].items()}
    assert labels == {
        "sampling_steps": ["as it is", "1 steps", "8 steps"],
        "context_lengths": ["as it is", "2 frames", "1 frames"],
        "noise_levels": ["as it is", "noise 0.3"],
        "models": ["as it is", "longer"],
        "players": ["agent", "random"],
    }
    for name, rows in summary["tables"].items():
        drifts = name in ("noise_levels", "models", "players")
        for row in rows:
            low, high = row["intervals"]["psnr"]
            assert low <= row["psnr"] <= high and row["psnr_ceiling"] is not None and row["lpips"] is None
            assert (row["num_starts"] > 0) == drifts == (row["psnr_by_horizon"]["1"] is not None)
    first = summary["tables"]["sampling_steps"][0]
    assert first["num_windows"] == 4 and first["psnr_copy_last"] == summary["tables"]["models"][1]["psnr_copy_last"]
    groups = summary["tables"]["players"]
    assert sum(row["num_windows"] for row in groups) == summary["num_windows"] == 8
    weighted = sum(row["num_windows"] * row["psnr"] for row in groups) / 8
    assert weighted == pytest.approx(summary["psnr"], abs=1e-3)


def test_the_page_shows_every_table(summary: dict) -> None:
    page = Path(summary["report"]).read_text()
    for words in ("Sampling steps", "8 steps", "2 frames", "noise 0.3", "longer", "Who played"):
        assert words in page


def test_a_row_plays_as_it_says(config: Config) -> None:
    sampler = build_sampler(stage.scheduler_settings(config))
    assert tables.played(sampler, tables.AS_IT_IS) == sampler
    four = tables.played(sampler, Row(num_steps=4))
    assert four.timesteps == (930, 697, 465, 232) and four.noise_scales == (1.0,) * 4 and four.noise_level == 0
    assert tables.played(sampler, Row(num_steps=1)).timesteps == (930,)
    assert tables.played(sampler, Row(noise_level=0.3)) == dataclasses.replace(sampler, noise_level=0.3)
    with pytest.raises(ValueError, match="must fall"):
        tables.played(sampler, Row(num_steps=2000))


def test_a_shorter_context_is_padded_as_a_young_game(config: Config) -> None:
    """Given two frames, the model does what it would do two frames after the beginning of an episode."""
    engine = GameEngine.from_pretrained(f"{config.folder}/denoiser")
    torch.manual_seed(0)
    with torch.no_grad():  # an untrained network predicts nothing
        for parameter in engine.denoiser.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    episodes = held_out.load(f"{config.folder}/gameplay", engine.game, 0)
    start = held_out.Start(episodes[0], 50)
    cut = dataclasses.replace(episodes[0], frames=episodes[0].frames[48:60], actions=episodes[0].actions[48:59])
    frames = {}
    for name, moment, length in (("given", start, 2), ("young", held_out.Start(cut, 2), engine.context_length)):
        state = engine.begin(*held_out.pasts([moment], length), [start.seed])
        frames[name] = engine.step(state, moment.actions(1).tolist())[0]
    assert (frames["given"] == frames["young"]).all()
    whole = pixels.next_frame(engine, [start], Judges(), 1, 1).generated
    assert (pixels.next_frame(engine, [start], Judges(), 1, 1, context_length=2).generated == frames["given"]).all()
    assert (whole != frames["given"]).any(), "the rest of the context matters"


def test_groups_tell_players_and_maps_apart(config: Config) -> None:
    game = dataclasses.replace(config.game, options={"levels": ["a", "b"], "held_out": ["b"]})
    episode = held_out.load(f"{config.folder}/gameplay", config.game_spec(), 0)[0]
    played = [("random", "a"), ("scripted:0.1", "b"), ("resting", "a"), ("ppo-12:0.05", "b"), ("imported", None)]
    starts = [
        held_out.Start(dataclasses.replace(episode, agent_version=version, level=level), 5) for version, level in played
    ]
    groups = Groups.of(dataclasses.replace(config, game=game), starts, starts[:2])
    assert groups.players.tolist() == ["random", "scripted", "resting", "agent", "imported"]
    assert groups.maps.tolist() == ["seen", "unseen", "seen", "unseen", ""]
    assert groups.start_maps.tolist() == ["seen", "unseen"]


def test_a_model_of_another_game_is_an_error(config: Config) -> None:
    other = configs.load("configs/quickstart.yaml", [*TINY, f"storage={config.storage}", "game.options.downscale=1"])
    wrong = dataclasses.replace(config.evaluate.tables, models={"other": f"{config.storage}/longer"})
    other = dataclasses.replace(other, evaluate=dataclasses.replace(other.evaluate, tables=wrong))
    with pytest.raises(ValueError, match=r"evaluate\.tables\.models"):
        tables._engine(other, f"{config.storage}/longer")
