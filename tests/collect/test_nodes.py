"""Collection over three machines of a Ray cluster: all play, one is lost on the way, nothing is lost or doubled."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gamengen import config as configs
from gamengen.data.check import check
from tests.collect.conftest import QUICKSTART, assert_exactly_once, committed, wait_for
from tests.collect.nodes import OTHERS, Nodes

SETTINGS = ["run=nodes", "collect.num_runners=4", "collect.shard_bytes=1"]
DINO = ["game.options={downscale: 8}", "collect.max_episode_frames=2000", "collect.num_frames=80000"]
DOOM = [
    "game.name=doom",
    "game.options={levels: [MAP01, deathmatch]}",
    "agent.observation=none",
    "collect.codec=palette-zstd",
    "collect.policies={random: 0.5, scripted: 0.5}",
    "collect.max_episode_frames=200",
    "collect.num_frames=6000",
]


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Nodes]:
    with Nodes() as nodes:
        yield nodes


def _frames_by_node(folder: str) -> Counter[str]:
    """Return how many frames of the shards that are safe each machine played."""
    played: Counter[str] = Counter()
    for done in Path(folder, "collect-progress", "done").glob("*.parquet"):
        for shard in Path(folder, "gameplay").glob(f"{done.stem}*.parquet"):  # none, where it is pending
            for row in pq.read_table(shard, columns=["node", "num_frames"]).to_pylist():
                played[row["node"]] += row["num_frames"]
    return played


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("game", [pytest.param(DINO, id="dino"), pytest.param(DOOM, id="doom", marks=pytest.mark.doom)])
def test_a_lost_machine_loses_and_doubles_nothing(three_nodes, overrides, game):
    if game is DOOM:
        pytest.importorskip("vizdoom")
    three_nodes.restore()
    settings = [*overrides, *SETTINGS, *game]
    config = configs.load(QUICKSTART, settings)
    num_items = -(-config.collect.num_frames // config.collect.max_episode_frames)
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs.collect", "--config", str(QUICKSTART), *settings],
        env={**os.environ, "RAY_ADDRESS": three_nodes.address},
        cwd=QUICKSTART.parents[1],
    )
    try:
        wait_for(lambda: committed(config.folder) >= num_items // 3 and len(_frames_by_node(config.folder)) == 3)
        begun = committed(config.folder)
        if game is DOOM:  # the loss of a game's process too, on a machine that stays
            engines = three_nodes.pids(OTHERS[1], "vizdoom")
            assert engines
            os.kill(engines[0], signal.SIGKILL)
        three_nodes.kill(OTHERS[0])
        assert job.wait(300) == 0
    finally:
        job.kill()
        job.wait()
    assert begun < num_items, "the machine was lost when all was done"
    assert_exactly_once(config, num_items)
    result = check([str(shard) for shard in sorted(Path(config.folder, "gameplay").glob("*.parquet"))])
    assert result.damages == []
    played = _frames_by_node(config.folder)
    assert len(played) == 3 and set(OTHERS) < set(played) and played.total() == result.frames
