"""A served game, its model on one machine, while the head is killed, on which the web server runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gamengen import local_head
from gamengen.local_nodes import LocalNodes
from gamengen.serve import client
from tests.conftest import TINY, wait_for
from tests.faults.conftest import Job

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_head_is_killed_while_the_game_is_played(nodes_that_work, made, tmp_path: Path, recovered) -> None:
    nodes, (head, *others) = nodes_that_work, nodes_that_work.nodes
    shutil.copytree(f"{made.folder}/denoiser", tmp_path / "quickstart" / "denoiser")
    port = local_head.free_ports(1)[0]
    settings = [*TINY, f"storage={tmp_path}", f"serve.port={port}", "serve.model=denoiser"]
    url = _serve(settings, nodes)
    assert not nodes.processes("ray::ServeReplica", head)
    numbers: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        player = thread.submit(_play, url, numbers)
        wait_for(lambda: len(numbers) > 10)
        killed = time.monotonic()
        nodes.kill(head)
        told, said = player.result(60)
    print(f"the player was told {told - killed:.1f} s after the fault")
    assert said == "the server ended the game: the connection broke. Connect again; a new game will start."
    assert told - killed < 20
    with pytest.raises(ConnectionError, match="no game answers"):
        asyncio.run(_step(url))
    # By themselves, after they have waited for the head in vain:
    wait_for(lambda: not any(nodes.is_up(node) for node in others) and not nodes.processes("ray::ServeReplica"))
    print(f"the other machines gave up {time.monotonic() - killed:.1f} s after the fault")
    since = time.monotonic()
    nodes.restore()
    assert _serve(settings, nodes) == url
    asyncio.run(_step(url))
    recovered(since)


def _serve(settings: list[str], nodes: LocalNodes) -> str:
    """Submit the job and return where the game is."""
    with Job("serve", settings, nodes) as job:
        status, said = job.ends()
    assert status == 0, said
    return json.loads(said.splitlines()[-1])["url"]


def _play(url: str, numbers: list[int]) -> tuple[float, str]:
    """Play in real time and note the numbers of the frames; returns when and how the game ended."""

    async def play() -> None:
        async with client.connect(url) as game, contextlib.aclosing(game.play()) as frames:
            async for frame in frames:
                numbers.append(frame.number)

    with pytest.raises(ConnectionError) as ended:
        asyncio.run(play())
    return time.monotonic(), str(ended.value)


async def _step(url: str) -> None:
    async with client.connect(url) as game:
        await game.step("jump")
