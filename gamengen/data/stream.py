"""An endless, deterministic stream of examples out of shards, which can be taken up at any position.

Ray Data has no position that a checkpoint could hold, and needs seconds for the first batch of every epoch; training
wants the opposite, so the workers read their shards themselves: many windows per decoded chunk, one pool of shards
in memory at a time, decoded ahead by a thread.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gamengen.data import shards as files
from gamengen.data.chunk import from_row
from gamengen.data.window import Window, WindowRules, draw_chains, draw_windows
from gamengen.game import GameSpec

_AHEAD = 32  # batches that a lane is ahead: examples are views of the pool, so these take no memory

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """Turns a pool of shards into examples."""

    def size(self, pool: Sequence[str]) -> int:
        """Return how many examples `draw` yields, without decoding anything."""
        ...

    def draw(self, pool: Sequence[str], rng: np.random.Generator) -> Iterator[T_co]:
        """Yield the examples of a pool in an order that depends on `rng` alone."""
        ...


@dataclass(frozen=True, kw_only=True)
class _EpisodeSource:
    """One window for every frame that follows another; the episodes of a pool are in memory together."""

    split: str = "train"

    def size(self, pool: Sequence[str]) -> int:
        total = 0
        for shard in pool:
            table = _of_split(files.read(shard, ["episode", "num_frames", "split"]), self.split)
            lengths = table.group_by("episode").aggregate([("num_frames", "sum")])["num_frames_sum"]
            total += sum(length - 1 for length in lengths.to_pylist())
        return total

    def _episodes(self, pool: Sequence[str]) -> list[files.Episode]:
        return [episode for episode in files.episodes(pool, self.split) if len(episode) > 1]


@dataclass(frozen=True)
class WindowSource(_EpisodeSource):
    """Windows in random order."""

    rules: WindowRules
    game: GameSpec

    def draw(self, pool: Sequence[str], rng: np.random.Generator) -> Iterator[Window]:
        return draw_windows(self._episodes(pool), self.rules, self.game, rng)


@dataclass(frozen=True)
class ChainSource(_EpisodeSource):
    """Windows that follow episodes frame by frame, up to `longest` of them on end."""

    context_length: int
    longest: int

    def draw(self, pool: Sequence[str], rng: np.random.Generator) -> Iterator[Window]:
        return draw_chains(self._episodes(pool), self.context_length, self.longest, rng)


@dataclass(frozen=True)
class CropSource:
    """Square crops of frames, uint8 [crop, crop, 3], a few from each chunk; one chunk is in memory at a time.

    Crops that would reach over a border are moved back to it: what stands there (a score) is seen half as often as the
    middle, where crops that start anywhere within would show the outermost pixels hardly ever. One crop is of the
    chunk's last frame: how an episode ends looks like nothing else, and is rare.

    Attributes:
        rows: first and last-but-one row of the frame that crops may show; all of them by default.
    """

    crop: int
    crops_per_chunk: int = 16
    rows: tuple[int, int] | None = None
    split: str = "train"

    def size(self, pool: Sequence[str]) -> int:
        return self.crops_per_chunk * sum(len(_of_split(files.read(shard, ["split"]), self.split)) for shard in pool)

    def draw(self, pool: Sequence[str], rng: np.random.Generator) -> Iterator[np.ndarray]:
        for shard in pool:
            table = _of_split(files.read(shard), self.split)
            for row in rng.permutation(len(table)):
                frames = from_row(table.slice(int(row), 1).to_pylist()[0]).frames
                top, bottom = self.rows or (0, frames.shape[1])
                for number in range(self.crops_per_chunk):
                    frame = frames[-1] if number == 0 else frames[rng.integers(len(frames))]
                    y, x = self._place(rng, top, bottom), self._place(rng, 0, frame.shape[1])
                    yield frame[y : y + self.crop, x : x + self.crop].copy()  # a view would keep all frames

    def _place(self, rng: np.random.Generator, first: int, end: int) -> int:
        start = int(rng.integers(first - self.crop // 2, end - self.crop // 2 + 1))
        return min(max(start, first), end - self.crop)


@dataclass(frozen=True)
class Lane(Generic[T]):
    """One of the parallel streams of which every global batch is made.

    The lanes, not the workers, own the shards: the same lanes served by more or fewer workers give the same batches.

    Attributes:
        shards: all shards of the run, the same in every lane.
        pool_shards: shards that are drawn from together.
    """

    shards: Sequence[str]
    source: Source[T]
    seed: int
    lane: int
    num_lanes: int
    pool_shards: int = 4

    def examples(self, skip: int = 0) -> Iterator[T]:
        """Yield examples for ever, from position `skip` on; whole pools before it are not decoded.

        Raises:
            ValueError: there is nothing to draw.
        """
        enough = len(self.shards) >= self.num_lanes
        pools = self._pools(self.shards[self.lane :: self.num_lanes] if enough else self.shards)
        sizes = [self.source.size(pool) for pool in pools]
        if not sum(sizes):  # this lane's shards hold no training episodes: it draws from all, too
            pools = self._pools(self.shards)
            sizes = [self.source.size(pool) for pool in pools]
        if not sum(sizes):
            raise ValueError(f"nothing to learn from in {len(self.shards)} shards: no training episodes; record more.")
        epoch, skip = divmod(skip, sum(sizes))
        while True:
            for index in np.random.default_rng([self.seed, self.lane, epoch]).permutation(len(pools)):
                if skip >= sizes[index]:
                    skip -= sizes[index]
                    continue
                rng = np.random.default_rng([self.seed, self.lane, epoch, int(index)])
                yield from itertools.islice(self.source.draw(pools[index], rng), skip, None)
                skip = 0
            epoch += 1

    def _pools(self, mine: Sequence[str]) -> list[list[str]]:
        return [list(mine[i : i + self.pool_shards]) for i in range(0, len(mine), self.pool_shards)]


@dataclass(frozen=True)
class Stream(Generic[T]):
    """All lanes; `batches` yields the part of each global batch that one of `world` workers handles.

    Each lane has a thread, far enough ahead to have the next pool decoded when the last one is used up.
    """

    shards: Sequence[str]
    source: Source[T]
    seed: int
    num_lanes: int
    batch_size: int
    pool_shards: int = Lane.pool_shards

    def __post_init__(self) -> None:
        if self.batch_size % self.num_lanes:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of the {self.num_lanes} lanes.")

    def batches(self, start: int, rank: int, world: int) -> Iterator[list[T]]:
        """Yield lists of batch_size / world examples, from global batch number `start` on."""
        if self.num_lanes % world:
            raise ValueError(f"{world} workers cannot share {self.num_lanes} lanes evenly; expected a divisor.")
        share = self.num_lanes // world
        each = self.batch_size // self.num_lanes
        lanes = [
            Lane(self.shards, self.source, self.seed, lane, self.num_lanes, self.pool_shards)
            for lane in range(rank * share, (rank + 1) * share)
        ]
        mine = [prefetched(_grouped(lane.examples(start * each), each), _AHEAD) for lane in lanes]
        while True:
            yield [example for lane in mine for example in next(lane)]


def _grouped(examples: Iterator[T], size: int) -> Iterator[list[T]]:
    while True:
        yield list(itertools.islice(examples, size))


def _of_split(table: pa.Table, split: str) -> pa.Table:
    return table.filter(pc.equal(table["split"], split))


def prefetched(iterator: Iterator[T], depth: int = 4) -> Iterator[T]:
    """Run an iterator in a thread, at most `depth` items ahead; its exception is raised here."""
    ready: queue.Queue[tuple[bool, T | BaseException]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[bool, T | BaseException]) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in iterator:
                if not put((True, item)):
                    return
        except BaseException as error:
            put((False, error))

    threading.Thread(target=work, daemon=True, name="prefetch").start()
    try:
        while True:
            good, item = ready.get()
            if not good:
                raise item  # type: ignore[misc]
            yield item  # type: ignore[misc]
    finally:
        stop.set()
