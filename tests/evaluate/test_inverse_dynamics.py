"""The judge of actions learns from recorded play within a minute, is kept, and tells following from standing still."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from gamengen import benchmark_model, storage
from gamengen.config import Config
from gamengen.data import shards
from gamengen.evaluate import following, held_out, inverse_dynamics, statistics
from gamengen.evaluate.following import Following
from tests.conftest import load_tiny

DOOM = (
    "game.name=doom",
    "game.options={levels: defend_the_center, reward: scenario, actions: scenario, frame_tics: 4, action_tics: 8}",
    "agent.observation=none", "autoencoder.options.margins=[0, 0]",
)  # fmt: skip


def learnt(folder: Path, *overrides: str, num_items: int) -> tuple[Config, list]:
    """Play at random, learn from most of it; returns the run and the episodes that were put aside."""
    config = load_tiny(folder, "evaluate.inverse_dynamics_steps=200", *overrides)
    benchmark_model.record(config, num_items=num_items, num_frames=200)
    aside = folder / "aside"
    aside.mkdir()
    for number in range(3):
        Path(config.folder, "gameplay", f"made-{number}.parquet").rename(aside / f"{number}.parquet")
    begun = time.process_time()
    inverse_dynamics.prepare(config)
    assert time.process_time() - begun < 120, "a minute of two cores"
    return config, list(shards.episodes(shards.find(str(aside))))


class Recorded:
    """Plays the recorded future of any moment, which it knows by its seed, or its last frame again and again."""

    context_length = 4

    def __init__(self, game: object, episodes: list, perfect: bool) -> None:
        self.game, self._perfect = game, perfect
        self._places = {held_out.Start(e, t).seed: (e, t - 1) for e in episodes for t in range(1, len(e))}

    def begin(self, frames: np.ndarray, actions: np.ndarray, seeds: list[int]) -> list:
        return [self._places[seed] for seed in seeds]

    def step_latents(self, state: list, actions: list[int]) -> tuple[np.ndarray, list]:
        if self._perfect:
            state = [(e, t + 1) for e, t in state]
        return np.stack([e.frames[t] for e, t in state]), state

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return self.game.visible(latents)


def judged(config: Config, episodes: list, perfect: bool) -> dict:
    starts = held_out.draw_changes(episodes, 60, 0, after=4 + following.AHEAD)
    engine = Recorded(config.game_spec(), episodes, perfect)
    figures, intervals = following.figures_of(following.measure(engine, starts, inverse_dynamics.load(config), 20))
    assert figures is not None and intervals is not None
    assert figures["num_actions"] > 1 and figures["num_moments"] >= 20
    return figures


@pytest.mark.slow
def test_it_learns_the_dinosaur_and_judges_models(tmp_path: Path) -> None:
    config, episodes = learnt(tmp_path, num_items=19)
    good = judged(config, episodes, perfect=True)
    assert good["real"] > 2 * good["chance"] and good["real"] > good["still"] + 0.2
    assert good["next_frame"] == good["on_its_own"] == good["real"]
    frozen = judged(config, episodes, perfect=False)
    assert frozen["next_frame"] == frozen["still"] and frozen["on_its_own"] < good["on_its_own"] - 0.1
    kept = storage.read_json(f"{config.folder}/inverse_dynamics/config.json")
    inverse_dynamics.prepare(config)
    assert storage.read_json(f"{config.folder}/inverse_dynamics/config.json") == kept, "it is there already"


@pytest.mark.slow
@pytest.mark.doom
def test_it_learns_a_doom_scenario(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    config, episodes = learnt(tmp_path, *DOOM, num_items=19)
    good = judged(config, episodes, perfect=True)
    assert good["real"] > 2 * good["chance"] and good["real"] > good["still"] + 0.2


def test_every_action_counts_the_same() -> None:
    seen = np.array([True, True, False, True])
    none = np.zeros(4, bool)
    figures, intervals = following.figures_of(Following(np.array([0, 0, 0, 2]), seen, none, seen, none))
    assert figures is not None and figures["next_frame"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-4)
    assert figures["chance"] == 0.5 and figures["on_its_own"] == 0 and intervals["on_its_own"] == [0, 0]
    assert following.figures_of(Following(*(np.zeros(0) for _ in range(5)))) == (None, None)


def test_moments_are_spread_over_the_actions(run: Config) -> None:
    episodes = held_out.load(f"{run.folder}/gameplay", run.game_spec(), 0)
    starts = held_out.draw_changes(episodes, 9, 0, after=12)
    taken = [int(start.actions(1)[0]) for start in starts]
    assert all(start.frame >= 12 for start in starts) and np.bincount(taken).tolist() == [3, 3, 3]
    for start, action in zip(starts, taken, strict=True):
        assert start.episode.actions[start.frame - 3 : start.frame - 1].tolist() != [action, action]
        assert start.episode.actions[start.frame - 2] == action


def test_small_frames_and_means() -> None:
    frames = np.zeros((2, 128, 256, 3), np.uint8)
    frames[:, ::2] = 200
    assert inverse_dynamics.shrink(frames).shape == (2, 64, 128, 3) and (inverse_dynamics.shrink(frames) == 100).all()
    assert inverse_dynamics.shrink(np.zeros((1, 240, 320, 3), np.uint8)).shape == (1, 64, 88, 3)
    assert statistics.mean(np.array([np.nan, 2.0])) == 2 and statistics.interval(np.array([np.nan])) is None
