"""An endless, deterministic stream of examples out of shards, which can be taken up at any position.

Ray Data has no position that a checkpoint could hold, and needs seconds for the first batch of every epoch; training
wants the opposite, so the workers read their shards themselves: many windows per decoded chunk, one pool of shards
in memory at a time, decoded ahead by a thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pyarrow.compute as pc

from gamengen.data import shards as files
from gamengen.data.shards import Episode

T = TypeVar("T")
Draw = Callable[[Sequence[Episode], np.random.Generator], Iterator[T]]


@dataclass(frozen=True)
class Lane(Generic[T]):
    """One of the parallel streams of which every global batch is made.

    The lanes, not the workers, own the shards: the same lanes served by more or fewer workers give the same batches.

    Attributes:
        shards: all shards of the run, the same in every lane.
        draw: yields the examples of a pool of episodes; as many as the pool has frames that follow another.
        pool_shards: shards that are decoded and shuffled together.
    """

    shards: Sequence[str]
    draw: Draw[T]
    seed: int
    lane: int
    num_lanes: int
    pool_shards: int = 8
    split: str = "train"

    def examples(self, skip: int = 0) -> Iterator[T]:
        """Yield examples for ever, from position `skip` on; whole pools before it are not decoded."""
        pools = self._pools()
        sizes = [self._size(pool) for pool in pools]
        if not sum(sizes):
            raise ValueError(f"no {self.split} episodes of two frames or more in {len(self.shards)} shards; record more.")
        epoch = skip // sum(sizes)
        skip -= epoch * sum(sizes)
        while True:
            for index in np.random.default_rng([self.seed, self.lane, epoch]).permutation(len(pools)):
                if skip >= sizes[index]:
                    skip -= sizes[index]
                    continue
                rng = np.random.default_rng([self.seed, self.lane, epoch, int(index)])
                episodes = [e for e in files.episodes(pools[index], self.split) if len(e) > 1]
                for example in self.draw(episodes, rng):
                    if skip:
                        skip -= 1
                    else:
                        yield example
            epoch += 1

    def _pools(self) -> list[list[str]]:
        mine = list(self.shards)
        if len(mine) >= self.num_lanes:
            mine = mine[self.lane :: self.num_lanes]
        return [mine[i : i + self.pool_shards] for i in range(0, len(mine), self.pool_shards)]

    def _size(self, pool: Sequence[str]) -> int:
        total = 0
        for shard in pool:
            table = files.read(shard, ["episode", "num_frames", "split"])
            table = table.filter(pc.equal(table["split"], self.split))
            lengths = table.group_by("episode").aggregate([("num_frames", "sum")])["num_frames_sum"]
            total += sum(length - 1 for length in lengths.to_pylist())
        return total


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
