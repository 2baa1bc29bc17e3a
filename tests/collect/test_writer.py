"""Episodes get into shards exactly once, whoever dies."""

import io
import os
import signal
import threading
import time

import pyarrow as pa
import pytest

from gamengen import storage
from gamengen.collect.recording import EpisodeRecorder, Origin
from gamengen.collect.writer import EpisodeWriter, WriterSink, own_shards, start_writer
from tests.collect.conftest import episodes_in


@pytest.fixture
def episode(config):
    """Return a function that makes the rows of an episode of 40 frames (2 chunks)."""
    import numpy as np

    game = config.game_spec()

    def make(name: str) -> pa.Table:
        recorder = EpisodeRecorder(game, config.collect, Origin("r", "n", "random"), name, 0)
        frames = np.random.default_rng(0).integers(0, 256, (40, game.height, game.width, 3), dtype=np.uint8)
        for number, frame in enumerate(frames):
            if number:
                recorder.step(0, 0.0)
            recorder.frame(frame)
        return recorder.finish(True, False)

    return make


def ipc(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def test_nothing_is_safe_before_its_shard_is_there(tmp_path, episode):
    rows = ipc(episode("a"))
    writer = EpisodeWriter(str(tmp_path), "agent", int(len(rows) * 2.5))
    assert writer.add("s", "a", rows)[1] == [] and writer.add("t", "b", ipc(episode("b")))[1] == []
    assert not own_shards(str(tmp_path), "agent")
    assert writer.add("s", "c", ipc(episode("c")))[1] == ["a", "c"]
    assert writer.flush("t")[1] == ["b"]
    assert episodes_in(tmp_path) == {"a": 40, "b": 40, "c": 40}
    assert len(own_shards(str(tmp_path), "agent")) == 1


def test_an_episode_that_is_sent_again_is_only_confirmed(tmp_path, episode):
    writer = EpisodeWriter(str(tmp_path), "agent", 10**9)
    for _ in range(3):
        writer.add("s", "a", ipc(episode("a")))
    writer.flush()
    restarted = EpisodeWriter(str(tmp_path), "agent", 1)
    assert restarted.add("s2", "a", ipc(episode("a")))[1] == ["a"]
    assert episodes_in(tmp_path) == {"a": 40}


def disk_full(uri: str, data: bytes) -> None:
    raise OSError("the disk is full")


def test_a_write_that_fails_leaves_no_shard_and_loses_nothing(tmp_path, episode, monkeypatch):
    writer = EpisodeWriter(str(tmp_path), "agent", 10**9)
    writer.add("s", "a", ipc(episode("a")))
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", disk_full)
        with pytest.raises(OSError, match="disk"):
            writer.flush()
    (tmp_path / "agent-1.parquet.2.tmp").write_bytes(b"half")  # what a kill in the middle of a write leaves
    assert not own_shards(str(tmp_path), "agent")
    assert writer.flush("s")[1] == ["a"]
    assert episodes_in(tmp_path) == {"a": 40}


def test_foreign_shards_are_left_alone(tmp_path):
    storage.write_bytes(f"{tmp_path}/collect-1.parquet", b"half")
    EpisodeWriter(str(tmp_path), "agent", 1)
    assert (tmp_path / "collect-1.parquet").read_bytes() == b"half"


@pytest.mark.ray
def test_a_killed_writer_loses_and_doubles_nothing(cluster, tmp_path, episode):
    import ray

    rows = episode("a").nbytes
    writer = start_writer("test-writer", str(tmp_path), "agent", int(rows * 3.5))
    sinks = [WriterSink("test-writer") for _ in range(2)]
    names = [f"episode-{number}" for number in range(20)]
    for number, name in enumerate(names):
        if number in (5, 11, 18):
            os.kill(ray.get(writer.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
            time.sleep(1.0 if number == 11 else 0)  # sometimes the new one is there before anybody noticed
        sinks[number % 2](name, episode(name))
    for sink in sinks:
        sink.flush()
    assert episodes_in(tmp_path) == dict.fromkeys(names, 40)
    ray.kill(writer)


class SlowWriter(EpisodeWriter):
    """As on a slow disk."""

    def _write(self) -> None:
        time.sleep(0.25)
        super()._write()


@pytest.mark.ray
def test_a_slow_writer_slows_the_players_and_nothing_is_lost(cluster, tmp_path, episode):
    """One episode per player is on its way, and what a player keeps is no more than a shard and that one."""
    import ray

    size = len(ipc(episode("a")))
    writer = ray.remote(SlowWriter).options(name="slow-writer", num_cpus=0).remote(str(tmp_path), "agent", 2 * size)
    ray.get(writer.flush.remote())
    kept, ended = [], []

    def play(player: int) -> None:
        sink = WriterSink("slow-writer")
        for number in range(12):
            sink(f"{player}-{number}", episode(f"{player}-{number}"))
            kept.append(sum(map(len, sink._unsaved.values())))
        sink.flush()
        ended.append(player)

    begun = time.monotonic()
    players = [threading.Thread(target=play, args=(player,)) for player in range(2)]
    for player in players:
        player.start()
    for player in players:
        player.join(60)
    seconds = time.monotonic() - begun
    num_shards = len(own_shards(str(tmp_path), "agent"))
    assert sorted(ended) == [0, 1] and seconds >= 0.25 * num_shards >= 0.25 * 8, "of 2 or 3 episodes each"
    assert max(kept) < 3.1 * size
    assert episodes_in(tmp_path) == {f"{player}-{number}": 40 for player in range(2) for number in range(12)}
    ray.kill(writer)
