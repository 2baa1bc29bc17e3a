"""DOOM is recorded with its variables and levels; a game that dies costs one try, and never leaves half an episode."""

import dataclasses
import os
import signal
from collections import Counter

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gamengen import config as configs
from gamengen import envs
from gamengen.collect import policies, rollouts
from gamengen.collect.holding import HeldActions
from gamengen.collect.recording import Origin, RecordingEnv
from gamengen.data import chunk as chunks
from gamengen.data import shards
from gamengen.envs import GameDied
from tests.collect.conftest import QUICKSTART

pytest.importorskip("vizdoom")
pytestmark = pytest.mark.doom

ORIGIN = Origin("r", "n", "random")
SETTINGS = dataclasses.replace(
    configs.load(QUICKSTART).collect,
    codec="delta-zstd",
    chunk_frames=16,
    split_val=0.0,
    split_test=0.0,
    max_episode_frames=60,
)


@pytest.fixture
def game():
    env = envs.make("doom", observation="none", levels=["MAP01", "health_gathering"], held_out=["MAP01"])
    yield env
    env.close()


class Killer:
    """A random player in whose hands the game's process dies at some actions."""

    version = "random"

    def __init__(self, env, at=()):
        self._env, self._at, self._count = env, set(at), 0
        self._player = policies.RandomPolicy(env.game_spec)

    def reset(self, rng):
        self._player.reset(rng)

    def action(self, observation, info):
        self._count += 1
        if self._count in self._at:
            os.kill(self._env._engine.pid, signal.SIGKILL)
        return self._player.action(observation, info)


def record(game, seed, at=()):
    return rollouts.play_item(game, Killer(game, at), SETTINGS, ORIGIN, seed)


def test_variables_level_and_split_are_recorded_as_the_game_said(game, tmp_path):
    told, recorded = [], {}
    env = RecordingEnv(game, SETTINGS, ORIGIN, recorded.__setitem__, "a", 0)
    for level in ("MAP01", "health_gathering"):
        _, info = env.reset(seed=1, options={"level": level})
        told.append([info["variables"]])
        frames = [env.render()]
        for _ in range(30):
            *_, info = env.step(6)
            told[-1].append(info["variables"])
            frames.append(env.render())
    env.close()
    pq.write_table(pa.concat_tables(recorded.values()), tmp_path / "a.parquet")
    first, second = shards.episodes(shards.find(str(tmp_path), game.game_spec))
    assert [(first.level, first.split), (second.level, second.split)] == [
        ("MAP01", "test"),
        ("health_gathering", "train"),
    ]
    for episode, variables in zip((first, second), told, strict=True):
        assert tuple(episode.variables) == game.game_spec.variables and len(episode) == 31
        for name, values in episode.variables.items():
            np.testing.assert_array_equal(values, np.array([each[name] for each in variables], np.float32), name)
    assert first.variables["x"][-1] != first.variables["x"][0] and second.variables["health"][-1] < 100
    np.testing.assert_array_equal(second.frames, frames)
    query = f"select level, min(list_min(variables.health)) from '{tmp_path}/*.parquet' group by 1 order by 1"
    assert dict(duckdb.sql(query).fetchall())["health_gathering"] < 100


def test_every_frame_is_recorded_while_an_action_is_held(game):
    recorded = {}
    env = HeldActions(
        RecordingEnv(game, SETTINGS, ORIGIN, recorded.__setitem__, "a", 0), game.frames_per_action, 0.5, seed=1
    )
    env.reset()
    done = [env.step(action)[4]["action"] for action in (6, 1, 2, 12, 4, 42, 8, 0)]
    env.close()
    (table,) = recorded.values()
    kept = [action for part in table["actions"].to_pylist() for action in part]
    assert kept == [action for action in done for _ in range(2)]
    assert sum(table["num_frames"].to_pylist()) == 17


def test_an_item_shows_what_was_played_with_its_actions_held(game):
    settings = dataclasses.replace(SETTINGS, repeat_probability=0.3)
    table = rollouts.play_item(game, Killer(game), settings, ORIGIN, 3)
    first = table["episode"][0].as_py()
    parts = [chunks.from_row(row) for row in table.to_pylist() if row["episode"] == first]
    actions = np.concatenate([part.actions for part in parts])
    even = len(actions) - len(actions) % 2
    np.testing.assert_array_equal(actions[0:even:2], actions[1:even:2])
    rng = np.random.default_rng([3, 0])
    game.reset(seed=int(rng.integers(2**31)))
    frames = [game.render()]
    for action in actions:
        game.step(action)
        frames.append(game.render())
    np.testing.assert_array_equal(np.concatenate([part.frames for part in parts]), frames)


def test_an_item_is_the_same_every_time_and_survives_a_killed_game(game):
    whole = record(game, 3)
    assert sum(whole["num_frames"].to_pylist()) >= 60
    assert whole == record(game, 3)
    assert whole == record(game, 3, at=[20])  # half way through its first episode
    with pytest.raises(GameDied):
        record(game, 3, at=range(1, 1000))


def test_a_killed_game_leaves_no_half_episode(game):
    recorded = {}
    env = RecordingEnv(game, SETTINGS, ORIGIN, recorded.__setitem__, "a", 0)
    env.reset()
    for _ in range(20):
        env.step(6)
    os.kill(game._engine.pid, signal.SIGKILL)
    with pytest.raises(GameDied):
        for _ in range(5):
            env.step(6)
    env.reset()
    for _ in range(10):
        env.step(6)
    env.close()
    assert [sum(table["num_frames"].to_pylist()) for table in recorded.values()] == [11]


def test_a_random_player_s_dataset_holds_both_levels(game):
    levels: Counter = Counter()
    for seed in range(8):
        table = record(game, seed)
        splits = set(zip(table["level"].to_pylist(), table["split"].to_pylist(), strict=True))
        assert splits <= {("MAP01", "test"), ("health_gathering", "train")}
        levels.update(table["level"].to_pylist())
    assert set(levels) == {"MAP01", "health_gathering"}
    assert chunks.game_of(table.schema, "x") == game.game_spec
