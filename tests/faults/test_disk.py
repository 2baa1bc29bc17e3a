"""A disk that is full while play is collected: one clear line, and all that was reported is there afterwards."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gamengen import config as configs
from tests.collect.conftest import QUICKSTART, committed
from tests.faults.conftest import Job
from tests.faults.test_collection import NOISE, SETTINGS, assert_all_there

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_ends_a_collection_in_one_line_and_it_goes_on_later(
    nodes,
    overrides,
    recovered,
    tmp_path,
    small_disk,
):
    game = [f"game.options={{notes: {tmp_path}/notes}}", "collect.max_episode_frames=16", "collect.num_frames=256"]
    settings = [*overrides, *SETTINGS, *NOISE, *game, "collect.chunk_frames=16", f"storage={small_disk}"]
    config = configs.load(QUICKSTART, settings)
    with Job("collect", settings, nodes) as job:
        status, said = job.ends()
    before = committed(config.folder)
    assert status == 2 and 0 < before < 16
    assert f"error: no space is left in {config.folder}" in said.splitlines()[-1], said
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    since = time.monotonic()
    with Job("collect", settings, nodes) as job:
        status, said = job.ends()
    recovered(since)
    assert status == 0, said
    assert_all_there(config, 16)
    played = len((tmp_path / "notes").read_text().splitlines())
    assert f'"new_frames": {(16 - before) * 16}' in said and played < 32, "what was reported is not played again"
