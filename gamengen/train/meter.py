"""What a training tells of itself: loss, rate, wait for data, share of the device's peak, memory."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gamengen.config import StageConfig
from gamengen.train.optimizers import learning_rate


@dataclass
class Progress:
    """One line of the log: what `report` is called with.

    Attributes:
        loss: mean over the steps since the last line, all workers' examples.
        data_wait: share of the time.
        mfu: model FLOP per second of this worker over what its device can do at most (forward, and backward as twice
            that; what is computed again to save memory does not count), as counted in the training's first step.
        memory_gb: the most that this worker has held, of its GPU or, on a CPU, of its process.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    samples_per_second: float
    data_wait: float
    mfu: float
    memory_gb: float
    seconds_left: float


class Meter:
    """Averages the loss between two lines of the log and measures. Nothing waits for the device but a line."""

    def __init__(
        self, settings: StageConfig, first: int, work: float, peak: float, device: torch.device, world: int
    ) -> None:
        """`work`: FLOP of a step on this worker; `peak`: its device's FLOP per second; `world`: number of workers."""
        self.settings, self.first, self.device, self.world = settings, first, device, world
        self.work, self.peak = work, peak
        self.total = torch.zeros((), device=device)
        self.begun = self.last = time.perf_counter()
        self.waited, self.count = 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begun

    def add(self, loss: Tensor) -> None:
        """Count a part of a step's loss."""
        self.total += loss.detach()

    def check(self, step: int) -> float:
        """Return the mean loss of all workers since the last line; raises FloatingPointError if it is not finite."""
        total, workers = self.total.clone(), 1
        if self.world > 1:
            torch.distributed.all_reduce(total)
            workers = torch.distributed.get_world_size()  # more than share the batch, where some repeat what others do
        value = float(total) / (workers * max(1, self.count))
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {step} or shortly before; lower the learning rate or the precision."
            )
        return value

    def update(self, step: int) -> Progress | None:
        """Count a step; returns a line when one is due."""
        self.count += 1
        if step % self.settings.log_every and step != self.settings.steps:
            return None
        loss = self.check(step)  # waits for the device
        now = time.perf_counter()
        elapsed = now - self.last
        progress = Progress(
            step=step,
            steps=self.settings.steps,
            loss=loss,
            learning_rate=learning_rate(self.settings, step - 1),
            samples_per_second=self.count * self.settings.batch_size / elapsed,
            data_wait=self.waited / elapsed,
            mfu=self.count * self.work / elapsed / self.peak,
            memory_gb=_memory(self.device) / 1e9,
            seconds_left=(now - self.begun) / (step - self.first) * (self.settings.steps - step),
        )
        self.total.zero_()
        self.last, self.waited, self.count = now, 0.0, 0
        return progress


def _memory(device: torch.device) -> float:
    """Return the bytes held at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
