"""Gathers the steps of all players into batches for the one engine; knows no sockets and no Ray.

PyTorch owns the cores while a step runs, so there is exactly one worker thread: it runs the engine and then, while the
cores are free again, encodes the frames. A batch is whatever arrived while the previous one was running; nobody waits
for a batch to fill. A player has at most one request under way and requests are served in order of arrival, so a full
batch can delay a player by one turn and never starve one.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from gamengen.engine import EngineState, GameEngine

logger = logging.getLogger(__name__)


class StepError(Exception):
    """Says that the engine failed on the batch that a player's request was in; the player's game is as before."""


@dataclass(frozen=True)
class Turn:
    """What a player gets back: the new state of the game and its frame."""

    state: EngineState
    jpeg: bytes
    model_seconds: float  # the engine's time for the whole batch, without encoding
    late: bool  # finished after the deadline


@dataclass(frozen=True)
class BatchReport:
    """Describes a finished batch to whoever counts."""

    size: int
    model_seconds: float
    late: int
    failed: bool
    turn_seconds: tuple[float, ...] = ()  # of each request, from its arrival to its encoded frame


class Observer(Protocol):
    """Is told of every batch, on the event loop."""

    def __call__(self, report: BatchReport) -> None: ...


@dataclass
class _Request:
    """A step of `state`, or a new game from `seed` where there is no state."""

    state: EngineState | None
    action: int
    seed: int
    deadline: float | None
    arrived: float  # in the event loop's time, as is the deadline
    future: asyncio.Future[Turn]


class Batcher:
    """Runs one engine for many players; use from one event loop."""

    def __init__(
        self,
        engine: GameEngine,
        *,
        max_batch: int,
        jpeg_quality: int,
        initializer: Callable[[], Any] | None = None,
        observe: Observer | None = None,
    ) -> None:
        """Take the engine over; `initializer` runs first in its worker thread."""
        self._engine = engine
        self._max_batch = max_batch
        self._quality = jpeg_quality
        self._observe = observe
        self._worker = ThreadPoolExecutor(1, "engine", initializer)
        self._waiting: deque[_Request] = deque()
        self._loop_task: asyncio.Task[None] | None = None
        self.failures_in_a_row = 0

    def warm_up(self) -> float:
        """Run the first, slow steps (blocking); returns the seconds that a warm step takes for one player."""
        return self._worker.submit(self._warm_up).result()

    async def reset(self, seed: int) -> Turn:
        """Start a new game; raises StepError when the engine fails."""
        return await self._submit(None, 0, seed, None)

    async def step(self, state: EngineState, action: int, deadline: float | None = None) -> Turn:
        """Advance one player's game; `deadline` is in the event loop's time. Raises StepError when the engine fails."""
        return await self._submit(state, action, 0, deadline)

    async def close(self) -> None:
        """Stop; requests that still wait are cancelled."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        for request in self._waiting:
            request.future.cancel()
        self._worker.shutdown(wait=False)

    async def _submit(self, state: EngineState | None, action: int, seed: int, deadline: float | None) -> Turn:
        loop = asyncio.get_running_loop()
        request = _Request(state, action, seed, deadline, loop.time(), loop.create_future())
        self._waiting.append(request)
        if self._loop_task is None or self._loop_task.done():
            self._loop_task = loop.create_task(self._run())
        return await request.future

    async def _run(self) -> None:
        """Serve batches until nobody waits; `_submit` starts it again."""
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            try:
                states, jpegs, seconds = await loop.run_in_executor(self._worker, self._work, batch)
            except Exception as error:  # whatever the model raises concerns this batch only
                self._fail(batch, error)
                continue
            self.failures_in_a_row = 0
            now, num_late = loop.time(), 0
            for request, state, jpeg in zip(batch, states, jpegs, strict=True):
                late = request.deadline is not None and now > request.deadline
                num_late += late
                if not request.future.done():  # the player may have left
                    request.future.set_result(Turn(state, jpeg, seconds, late))
            waited = tuple(now - request.arrived for request in batch)
            self._report(BatchReport(len(batch), seconds, num_late, failed=False, turn_seconds=waited))

    def _next_batch(self) -> list[_Request]:
        """Take the longest waiting requests of one kind, at most `max_batch`; the others keep their order."""
        batch: list[_Request] = []
        others: deque[_Request] = deque()
        for request in self._waiting:
            if request.future.done():
                continue
            same_kind = not batch or (request.state is None) == (batch[0].state is None)
            (batch if same_kind and len(batch) < self._max_batch else others).append(request)
        self._waiting = others
        return batch

    def _work(self, batch: Sequence[_Request]) -> tuple[list[EngineState], list[bytes], float]:
        started = time.perf_counter()
        if batch[0].state is None:
            seeds = [request.seed for request in batch]
            frames, state = self._engine.reset(seeds, seeds)
        else:
            states = [request.state for request in batch if request.state is not None]
            stacked = states[0] if len(states) == 1 else type(states[0]).stack(states)
            frames, state = self._engine.step(stacked, [request.action for request in batch])
        seconds = time.perf_counter() - started
        states = [state] if len(batch) == 1 else state.split()
        return states, [encode_jpeg(frame, self._quality) for frame in frames], seconds

    def _warm_up(self) -> float:
        for size in range(self._max_batch, 0, -1):  # a GPU's graph is made for each size
            _, state = self._engine.reset(list(range(size)), list(range(size)))
            for _ in range(2):
                _, state = self._engine.step(state, [0] * size)
        _, state = self._engine.reset([0], [0])
        started = time.perf_counter()
        self._engine.step(state, [0])
        return time.perf_counter() - started

    def _fail(self, batch: Sequence[_Request], error: Exception) -> None:
        self.failures_in_a_row += 1
        logger.error("a batch of %d failed", len(batch), exc_info=error)
        for request in batch:
            if not request.future.done():
                request.future.set_exception(
                    StepError(f"the model failed on this frame ({type(error).__name__}). Try again, or reset.")
                )
        self._report(BatchReport(len(batch), 0.0, 0, failed=True))

    def _report(self, report: BatchReport) -> None:
        if self._observe is not None:
            self._observe(report)


def encode_jpeg(frame: np.ndarray, quality: int) -> bytes:
    """Encode a frame, uint8 RGB [H, W, 3]; colours at full resolution, as pixel art has one-pixel edges."""
    # Pillow: 0.21 ms for 256x128 at quality 90 on one core of a 2-core VM; torchvision 0.26 ms, PyAV 0.83 ms.
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
