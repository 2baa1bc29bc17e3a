"""Measures how collection grows with the machines of a cluster: nodes on this machine, a game that costs no CPU.

What is measured is the collection itself: how well work reaches players that are more and more, and their play the
shards. Start-up is left out, since here all nodes share the few cores on which their players start.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gamengen import config as configs
from gamengen import storage
from gamengen.config import Config
from gamengen.data import shards
from gamengen.local_nodes import LocalNodes
from gamengen.submission import SOURCE

logger = logging.getLogger(__name__)

NODES = (1, 2, 4, 8)
PLAYERS_PER_NODE = 2
ITEM_FRAMES = 100
PACE = 25.0  # frames per second of one player
ITEMS_PER_PLAYER = 6
_CPUS_PER_NODE = 2  # two players take one; reading and writing need the other


def scaling(config: Config) -> dict[str, Any]:
    """Collect on 1 to 8 nodes; `NODES` and the other amounts may be set by who imports this.

    Returns:
        by number of nodes: frames per second of all players while all play, their share of the pace that they have,
        and on how many nodes somebody played.
    """
    figures: dict[str, dict[str, float]] = {"scaling_fps": {}, "scaling_over_linear": {}, "scaling_nodes_playing": {}}
    folder = tempfile.TemporaryDirectory(prefix="gamengen-scaling-")
    with folder as scratch, LocalNodes(NODES[0], _CPUS_PER_NODE) as nodes:
        for count in NODES:
            nodes.grow(count)
            fps, playing = _collect(_paced(config, scratch, count), nodes.address, scratch)
            share = fps / (count * PLAYERS_PER_NODE * PACE)
            logger.info("%d nodes: %.1f frames/s, %.3f of the pace", count, fps, share)
            for key, value in zip(figures, (round(fps, 1), round(share, 3), playing), strict=True):
                figures[key][str(count)] = value
    return {**figures, "scaling_pace": PACE, "scaling_players_per_node": PLAYERS_PER_NODE}


def _paced(config: Config, scratch: str, num_nodes: int) -> dict[str, Any]:
    """Return the settings of a collection with the paced game, as a tree."""
    tree = configs.to_dict(config)
    players = num_nodes * PLAYERS_PER_NODE
    tree |= {"run": f"nodes-{num_nodes}", "storage": scratch}
    tree["game"] = {"name": "gamengen.paced_game", "options": {"pace": PACE, "notes": f"{scratch}/notes-{num_nodes}"}}
    tree["agent"]["observation"] = "none"
    tree["collect"] |= {"num_frames": players * ITEMS_PER_PLAYER * ITEM_FRAMES, "max_episode_frames": ITEM_FRAMES}
    tree["collect"] |= {"num_runners": players, "policies": {"random": 1.0}, "import": None}
    return tree


def _collect(settings: dict[str, Any], address: str, scratch: str) -> tuple[float, int]:
    """Run the collect job on the nodes; returns the frames per second while all play, and the nodes that played."""
    file = f"{scratch}/config.yaml"
    storage.write_json(file, settings)  # JSON is YAML
    done = subprocess.run(
        [sys.executable, "-m", "jobs.collect", "--config", file],
        cwd=SOURCE,
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the collection on {address} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    nodes: set[str] = set()
    for shard in shards.find(f"{scratch}/{settings['run']}/gameplay"):
        nodes.update(pq.read_table(shard, columns=["node"])["node"].to_pylist())
    return steady_rate(_begins(Path(settings["game"]["options"]["notes"]))), len(nodes)


def _begins(notes: Path) -> list[list[float]]:
    """Return when each player began its items."""
    return [[float(line) for line in note.read_text().split()] for note in sorted(notes.iterdir())]


def steady_rate(begins: list[list[float]]) -> float:
    """Return the frames per second of all players together, from when the last one began to when the first one ended.

    Args:
        begins: for each player, when it began each of its items, in seconds; what lies between two is an item's frames
            and the wait for the next item.

    Raises:
        ValueError: there is no time in which all of them played two items.
    """
    first, last = max(times[0] for times in begins), min(times[-1] for times in begins)
    within = [[time for time in times if first <= time <= last] for times in begins]
    if min(map(len, within)) < 2:
        raise ValueError(
            f"the players' items, got {sorted(map(len, within))} that all were there for; expected at least 2 each. "
            "The machine is too busy for so many nodes, or there are too few items."
        )
    return sum(ITEM_FRAMES * (len(times) - 1) / (times[-1] - times[0]) for times in within)
