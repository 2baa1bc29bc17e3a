"""Collection over three machines of a Ray cluster, while players, writers and a machine are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gamengen import config as configs
from gamengen.config import Config
from gamengen.data import shards
from gamengen.data.check import check
from gamengen.local_nodes import LocalNodes
from gamengen.paced_game import picture
from tests.collect.conftest import QUICKSTART, assert_exactly_once, committed
from tests.conftest import wait_for
from tests.faults.conftest import Job, holders

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SETTINGS = ["run=nodes", "collect.num_runners=4", "collect.shard_bytes=1"]
PACED = [
    "game.name=gamengen.paced_game",
    "game.options={pace: 100}",
    "agent.observation=none",
    "collect.policies={random: 1.0}",
    "collect.max_episode_frames=100",
    "collect.num_frames=1600",
]
NOISE = [
    "game.name=tests.collect.noise",
    "agent.observation=none",
    "collect.policies={random: 1.0}",
    "collect.max_episode_frames=64",
    "collect.num_frames=768",
]
DINO = ["game.options={downscale: 8}", "collect.max_episode_frames=2000", "collect.num_frames=240000"]
DOOM = [
    "game.name=doom",
    "game.options={levels: [MAP01, deathmatch]}",
    "agent.observation=none",
    "collect.codec=palette-zstd",
    "collect.policies={random: 0.5, scripted: 0.5}",
    "collect.max_episode_frames=200",
    "collect.num_frames=24000",
]


def load(overrides: list[str], game: list[str]) -> tuple[list[str], Config, int]:
    """Return the settings, the Config and the number of items of a run."""
    settings = [*overrides, *SETTINGS, *game]
    config = configs.load(QUICKSTART, settings)
    return settings, config, -(-config.collect.num_frames // config.collect.max_episode_frames)


def assert_all_there(config: Config, num_items: int) -> int:
    """Every item is there once, and every row of every shard is whole; returns how many frames there are."""
    assert_exactly_once(config, num_items)
    result = check(shards.find(f"{config.folder}/gameplay"))
    assert result.damages == []
    return result.frames


def _frames_by_node(folder: str) -> Counter[str]:
    """Return how many frames of the shards that are safe each machine played."""
    played: Counter[str] = Counter()
    for done in Path(folder, "collect-progress", "done").glob("*.parquet"):
        for shard in Path(folder, "gameplay").glob(f"{done.stem}*.parquet"):  # none, where it is pending
            for row in pq.read_table(shard, columns=["node", "num_frames"]).to_pylist():
                played[row["node"]] += row["num_frames"]
    return played


def players(nodes: LocalNodes) -> list[int]:
    return nodes.processes("(Player)")


def test_a_killed_player_is_replaced(nodes, overrides, recovered):
    # long enough for a new player to start on a busy machine before the others have played all
    settings, config, num_items = load(overrides, [*PACED, "collect.num_frames=8000"])
    with Job("collect", settings, nodes) as job:
        wait_for(lambda: committed(config.folder) >= 4 and len(players(nodes)) == 4)
        before = set(players(nodes))
        victim = next(pid for pid in before if pid in nodes.processes("(Player)", nodes.nodes[1]))
        os.kill(victim, signal.SIGKILL)
        killed, begun = time.monotonic(), committed(config.folder)
        wait_for(lambda: len(set(players(nodes)) - {victim}) == 4)
        recovered(killed)
        status, said = job.ends()
    assert status == 0 and begun < num_items, said
    assert_all_there(config, num_items)
    for episode in shards.episodes(shards.find(f"{config.folder}/gameplay")):
        assert np.array_equal(episode.frames, [picture(number) for number in range(len(episode))])


def test_a_writer_that_is_killed_in_the_middle_of_a_shard(nodes, overrides, recovered, tmp_path):
    settings, config, num_items = load(overrides, [*NOISE, f"game.options={{notes: {tmp_path}/notes}}"])
    gameplay = f"{config.folder}/gameplay"
    half_written = False
    with Job("collect", settings, nodes) as job:
        wait_for(lambda: committed(config.folder) >= 1)
        while not half_written and job.process.poll() is None:
            for pid, shard in list(holders(nodes.processes("ray::Write"), gameplay).items())[:1]:
                os.kill(pid, signal.SIGKILL)
                killed, begun = time.monotonic(), committed(config.folder)
                half_written = not _is_whole(shard)
        wait_for(lambda: committed(config.folder) > begun or job.process.poll() is not None)
        recovered(killed)
        status, said = job.ends()
    assert status == 0 and half_written, said
    assert_all_there(config, num_items)


def _is_whole(shard: Path) -> bool:
    try:
        return pq.read_metadata(shard).num_rows > 0
    except (OSError, ValueError):
        return False


def _kill_engine(nodes: LocalNodes, node: str) -> bool:
    """Kill a DOOM process of a node; False where there is none, as between two levels, each of which has its own."""
    for engine in nodes.processes("vizdoom", node):
        with contextlib.suppress(ProcessLookupError):
            os.kill(engine, signal.SIGKILL)
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("game", [pytest.param(DINO, id="dino"), pytest.param(DOOM, id="doom", marks=pytest.mark.doom)])
def test_a_lost_machine_loses_and_doubles_nothing(nodes, overrides, recovered, game):
    if game is DOOM:
        pytest.importorskip("vizdoom")
    settings, config, num_items = load(overrides, game)
    with Job("collect", settings, nodes) as job:
        wait_for(lambda: committed(config.folder) >= num_items // 3 and len(_frames_by_node(config.folder)) == 3)
        begun = committed(config.folder)
        if game is DOOM:  # the loss of a game's process too, on a machine that stays
            wait_for(lambda: _kill_engine(nodes, nodes.nodes[2]))
        killed = time.monotonic()
        nodes.kill(nodes.nodes[1])
        wait_for(lambda: len(players(nodes)) == 4 or job.process.poll() is not None)
        recovered(killed)
        status, said = job.ends()
    assert status == 0, said
    assert begun < num_items, "the machine was lost when all was done"
    frames, played = assert_all_there(config, num_items), _frames_by_node(config.folder)
    assert len(played) == 3 and {*nodes.nodes[1:]} < set(played) and played.total() == frames
