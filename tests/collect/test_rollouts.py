"""Stand-alone collection: the amount that was asked for, each item exactly once, whoever is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.fs
import pytest

from gamengen import config as configs
from gamengen import storage
from gamengen.collect import policies, rollouts
from gamengen.collect.recording import Origin
from gamengen.data import chunk as chunks
from tests.collect.conftest import QUICKSTART, assert_exactly_once, committed
from tests.conftest import wait_for

LONG_ITEMS = ["collect.max_episode_frames=2000", "collect.num_frames=40000", "collect.shard_bytes=100000"]


def players() -> list[dict]:
    """Return the live players of this process's cluster."""
    from ray._private import state

    actors = state.actors().values()
    return [actor for actor in actors if "Player" in actor["ActorClassName"] and actor["State"] == "ALIVE"]


def test_an_item_is_the_same_every_time_and_has_its_frames(config):
    env = policies.make_env(config)
    origin = Origin("r", "n", "random")
    for name in ("random", "scripted"):
        policy = policies.make(name, config, env.unwrapped.game_spec)
        first, second, other = (rollouts.play_item(env, policy, config.collect, origin, seed) for seed in (3, 3, 4))
        assert first.equals(second) and not first.equals(other)
        frames = first["num_frames"].to_pylist()
        assert 200 <= sum(frames) < 232 and max(frames) == 32
        assert set(first["seed"].to_pylist()) == {3} and set(first["agent_version"].to_pylist()) == {"random"}
        for chunk in map(chunks.from_row, first.to_pylist()):
            assert chunk.frames.shape[1:] == (32, 64, 3) and chunk.frames.dtype == np.uint8


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("collect.policies={}", "shares"),
        ("collect.policies={random: -1.0}", "shares"),
        ("collect.policies={expert: 1.0}", "unknown policy"),
        ("collect.policies={agent: 1.0}", r"run jobs\.train_agent first"),
        ("collect.codec=delta_zstd", "unknown codec 'delta_zstd'"),
        ("game.options.downscal=2", "did you mean 'downscale'"),
    ],
)
def test_mistakes_are_found_before_anything_starts(overrides, override, message):
    with pytest.raises(ValueError, match=message):
        rollouts.collect(configs.load(QUICKSTART, [*overrides, override]))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_collecting_resuming_and_going_on(cluster, overrides, config):
    summary = rollouts.collect(config)
    assert 2000 <= summary["frames"] < 2000 + 10 * 32 and not summary["resumed"]
    assert_exactly_once(config, 10)
    assert set(summary["policies"]) == {"scripted", "random"} and summary["bytes"] > 0
    assert f"{summary['frames']:,} frames" in Path(config.folder, "README.md").read_text()
    again = rollouts.collect(config)
    assert again["nothing_left"] and again["new_frames"] == 0 and again["frames"] == summary["frames"]
    more = configs.load(QUICKSTART, [*overrides, "collect.num_frames=2600"])
    before = set(Path(config.folder, "gameplay").iterdir())
    assert 600 <= rollouts.collect(more)["new_frames"] < 700
    assert_exactly_once(config, 13)
    assert before < set(Path(config.folder, "gameplay").iterdir())
    next(Path(config.folder, "gameplay").glob("collect-*.parquet")).unlink()  # damaged, let us say
    assert rollouts.collect(more)["new_frames"] > 0
    assert_exactly_once(config, 13)
    with pytest.raises(ValueError, match="another max_episode_frames"):
        rollouts.collect(configs.load(QUICKSTART, [*overrides, "collect.max_episode_frames=300"]))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_player_loses_and_doubles_nothing(cluster, overrides):
    config = configs.load(QUICKSTART, [*overrides, *LONG_ITEMS, "run=player"])
    thread = threading.Thread(target=rollouts.collect, args=(config,))
    thread.start()
    wait_for(lambda: committed(config.folder) >= 2, every=0.05)
    os.kill(players()[0]["Pid"], signal.SIGKILL)
    thread.join(300)
    assert not thread.is_alive()
    assert_exactly_once(config, 20)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_driver_loses_and_doubles_nothing(cluster, overrides):
    settings = [*overrides, *LONG_ITEMS, "run=driver"]
    config = configs.load(QUICKSTART, settings)
    command = [sys.executable, "-m", "jobs.collect", "--config", str(QUICKSTART), *settings]
    driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": cluster}, cwd=QUICKSTART.parents[1])
    try:
        wait_for(lambda: committed(config.folder) >= 2, every=0.05)
    finally:
        driver.kill()
        driver.wait()
    begun = committed(config.folder)
    # As if the kill had met a write: a pending mark, and half of its shard.
    done = Path(config.folder, "collect-progress", "done")
    mark = next(done.glob("*.parquet")).read_bytes()
    (done / "collect-f00-000099.pending.parquet").write_bytes(mark)
    Path(config.folder, "gameplay", "collect-f00-000099-0.parquet").write_bytes(b"PAR1 half")
    time.sleep(3)  # its workers end a moment after it
    summary = rollouts.collect(config)
    assert summary["resumed"] and 0 < summary["new_frames"] < 40_000 and begun >= 2
    assert_exactly_once(config, 20)


class SlowDisk(pyarrow.fs.FSSpecHandler):
    """The local disk, on which a file takes its time."""

    def __init__(self) -> None:
        super().__init__(fsspec.filesystem("file"))

    def open_output_stream(self, path, metadata):
        time.sleep(1.0)
        return super().open_output_stream(path, metadata)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_slow_disk_slows_the_players_and_nothing_is_lost(cluster, overrides, tmp_path, monkeypatch):
    """All play is twice the object store; what waits to be written never fills much more than half of it."""
    import ray

    notes = tmp_path / "notes"
    game = ["game.name=tests.collect.noise", f"game.options={{notes: {notes}}}", "collect.policies={random: 1.0}"]
    items = ["collect.max_episode_frames=64", "collect.num_frames=5120", "collect.shard_bytes=1", "run=slow"]
    config = configs.load(QUICKSTART, [*overrides, *game, *items, "agent.observation=none"])
    where = storage.filesystem
    slow = pyarrow.fs.PyFileSystem(SlowDisk())
    monkeypatch.setattr(storage, "filesystem", lambda uri: (slow, uri) if uri.endswith("gameplay") else where(uri))
    waiting, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            waiting.append(len(notes.read_text().splitlines()) - committed(config.folder) if notes.exists() else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        rollouts.collect(config)
    finally:
        done.set()
        watcher.join()
    assert_exactly_once(config, 80)
    item_bytes = 64 * 256 * 256 * 3
    assert max(waiting) * item_bytes < 0.6 * ray.cluster_resources()["object_store_memory"]
