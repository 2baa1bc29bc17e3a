"""Gathers finished episodes of many players into shards, each episode exactly once although any process may die.

A player keeps an episode until the writer says that it is in a shard; a shard appears whole under its name or not at
all; a writer that was restarted knows from the shards which episodes it has. Shards are written by this one process and
not by Ray Data tasks, since a task could outlive a writer that has died and write once more what is sent again.
"""

from __future__ import annotations

import io
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Set
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gamengen import monitor, storage
from gamengen.data import shards

logger = logging.getLogger(__name__)

# Nearly all of a shard is frames, which their codec has packed already: to do so again takes time and saves nothing.
# Nor is there a value that stands in it often: dictionaries would be of whole chunks.
PARQUET = {"compression": "none", "use_dictionary": False, "row_group_size": 64}
_WAIT_FOR_WRITER = 120.0  # seconds for Ray to restart a writer on another machine


Receipt = tuple[str, list[str]]  # which incarnation of the writer answers; the sender's episodes that are safe by now


class EpisodeWriter:
    """Collects episodes and writes them as `<folder>/<prefix>-<letters>.parquet`; as an actor, or without Ray."""

    def __init__(self, folder: str, prefix: str, shard_bytes: int) -> None:
        self._folder, self._prefix, self._shard_bytes = folder, prefix, shard_bytes
        self._incarnation = uuid.uuid4().hex
        self._saved: set[str] = set()
        self._open: dict[str, tuple[str, pa.Table]] = {}  # episode -> its sender and its rows
        self._open_bytes = 0
        self._news: dict[str, list[str]] = defaultdict(list)  # sender -> episodes saved since it last called
        for shard in own_shards(folder, prefix):
            self._saved.update(shards.read(shard, ["episode"])["episode"].to_pylist())

    @property
    def saved(self) -> Set[str]:
        """The episodes that are in shards."""
        return self._saved

    def add(self, sender: str, episode: str, rows: bytes) -> Receipt:
        """Take an episode (an Arrow IPC stream); one that is already here is only confirmed."""
        if episode in self._saved:
            self._news[sender].append(episode)
        elif episode not in self._open:
            self._open[episode] = (sender, pa.ipc.open_stream(rows).read_all())
            self._open_bytes += len(rows)
            if self._open_bytes >= self._shard_bytes:
                self._write()
        return self._incarnation, self._news.pop(sender, [])

    def flush(self, sender: str = "") -> Receipt:
        """Write what is open as one shard."""
        if self._open:
            self._write()
        return self._incarnation, self._news.pop(sender, [])

    def _write(self) -> None:
        table = pa.concat_tables(rows for _, rows in self._open.values())
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **PARQUET)
        storage.write_bytes(f"{self._folder}/{self._prefix}-{uuid.uuid4().hex[:12]}.parquet", buffer.getvalue())
        for episode, (owner, _) in self._open.items():
            self._news[owner].append(episode)
        self._saved.update(self._open)
        self._open, self._open_bytes = {}, 0


def to_bytes(rows: pa.Table) -> bytes:
    """Return rows as the Arrow IPC stream that a writer takes."""
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, rows.schema) as ipc:
        ipc.write_table(rows)
    return stream.getvalue()


def count_recorded(rows: pa.Table, source: str) -> None:
    """Tell the metrics of recorded rows, all of one run and one machine; `source` is who played."""
    labels = {"run": rows["run"][0].as_py(), "source": source, "node": rows["node"][0].as_py()}
    monitor.COLLECT_FRAMES.add(pc.sum(rows["num_frames"]).as_py(), **labels)
    monitor.COLLECT_EPISODES.add(pc.sum(pc.equal(rows["chunk"], 0)).as_py(), **labels)
    monitor.COLLECT_BYTES.add(pc.sum(pc.binary_length(rows["frames"])).as_py(), **labels)


def own_shards(folder: str, prefix: str) -> list[str]:
    """Return the shards in a folder that writers of this prefix wrote."""
    return [
        shard for shard in storage.list_files(folder, ".parquet") if shard.rpartition("/")[2].startswith(f"{prefix}-")
    ]


def here() -> NodeAffinitySchedulingStrategy:
    """Return the strategy that keeps an actor on this machine, without which the job is lost anyway."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)


def start_writer(name: str, folder: str, prefix: str, shard_bytes: int) -> ActorHandle:
    """Start the named writer of this job on the machine of this process; Ray restarts it wherever it can."""
    options = {"name": name, "num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here()}
    writer = ray.remote(EpisodeWriter).options(**options).remote(folder, prefix, shard_bytes)
    ray.get(writer.flush.remote())
    return writer


class WriterSink:
    """Sends episodes to a writer and sends them again until they are safe; one per process (see `sink_to`).

    A call returns when the writer has the episode. That is the back-pressure: one episode per process is on its way,
    and all that is not yet safe is never more than a shard.
    """

    def __init__(self, writer_name: str) -> None:
        self._name = writer_name
        self._sender = uuid.uuid4().hex
        self._incarnation = ""
        self._unsaved: dict[str, bytes] = {}

    def __call__(self, episode: str, rows: pa.Table) -> None:
        self._unsaved[episode] = to_bytes(rows)
        self._call("add", episode, self._unsaved[episode])
        count_recorded(rows, "agent")

    def flush(self) -> None:
        """Wait until all episodes that were sent are in shards."""
        while self._unsaved:
            self._call("flush")

    def _call(self, method: str, *arguments: Any) -> None:
        deadline = time.monotonic() + _WAIT_FOR_WRITER
        while True:
            try:
                is_new = self._send(method, *arguments)
                while is_new and self._unsaved:  # what the writer before had not saved, died with it
                    is_new = any([self._send("add", *unsaved) for unsaved in list(self._unsaved.items())])
                return
            except ray.exceptions.RayActorError as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("the episode writer is away: %s", error)
                time.sleep(0.5)

    def _send(self, method: str, *arguments: Any) -> bool:
        """Call the writer once; return True if it is another one than the one that got the episodes before."""
        writer = ray.get_actor(self._name)
        incarnation, saved = ray.get(getattr(writer, method).remote(self._sender, *arguments))
        for episode in saved:
            self._unsaved.pop(episode, None)
        is_new = incarnation != self._incarnation
        self._incarnation = incarnation
        return is_new


@cache
def sink_to(writer_name: str) -> WriterSink:
    """Return this process's sink to the named writer of its job."""
    return WriterSink(writer_name)
