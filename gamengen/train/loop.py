"""One training loop for every stage, in plain torch: no Ray, no files. It goes on exactly where a state left off."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gamengen.config import StageConfig
from gamengen.data.stream import prefetched
from gamengen.train.muon import Muon

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Objective:
    """What a stage trains.

    Attributes:
        network: the module whose parameters are trained and averaged; it is what `loss` calls.
        batches: yields this worker's batches from a global step on, as tensors on the CPU.
        loss: (network, batch, step) -> scalar, the mean over this worker's examples.
    """

    network: nn.Module
    batches: Callable[[int], Iterator[Any]]
    loss: Callable[[nn.Module, Any, int], Tensor]


@dataclass
class Progress:
    """One line of the log: what `report` is called with."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    samples_per_second: float
    data_wait: float  # share of the time
    seconds_left: float


def learning_rate(settings: StageConfig, step: int) -> float:
    """Return the rate of a step (counted from 0): linear warm-up, then constant, or falling to zero at the end."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    if settings.schedule == "linear":
        return settings.learning_rate * (1 - done)
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate


def make_optimizers(network: nn.Module, settings: StageConfig) -> list[torch.optim.Optimizer]:
    """Build torch's AdamW or Adafactor, or Muon for the kernels and matrices of layers beside AdamW for the rest.

    Only matrices and kernels are decayed.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    layers = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    by_muon = {id(weight) for weight in layers if settings.optimizer == "muon"}
    parameters = [p for p in network.parameters() if p.requires_grad]
    rest = [p for p in parameters if id(p) not in by_muon]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adafactor":
        return [torch.optim.Adafactor(groups, lr=rate)]
    adamw = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))
    if settings.optimizer == "adamw":
        return [adamw]
    return [Muon([p for p in parameters if id(p) in by_muon], lr=rate, weight_decay=decay), adamw]


class Ema:
    """Exponential moving average of a network's weights; the decay is lower at the start, as the weights move fast."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)


def fit(
    objective: Objective,
    settings: StageConfig,
    *,
    device: torch.device,
    precision: torch.dtype | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    state: dict[str, Any] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    save: Callable[[int, Callable[[], dict[str, Any]]], None] = lambda step, get_state: None,
) -> dict[str, Tensor]:
    """Train to `settings.steps` and return the averaged weights.

    Args:
        precision: autocast's type, or None for float32.
        wrap: makes the network data-parallel.
        state: what `save` was given earlier; training goes on after its step with the same batches and noise.
        report: called every `log_every` steps and at the end.
        save: called every `checkpoint_every` steps and at the end with the step and a function that makes the state.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    network = objective.network.to(device)
    optimizers, ema, first = make_optimizers(network, settings), Ema(network, settings.ema_decay), 0
    if state is not None:
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        ema.weights, first = {k: v.to(device) for k, v in state["ema"].items()}, state["step"]
    parallel = wrap(network)
    batches = prefetched(objective.batches(first)) if first < settings.steps else iter(())
    autocast = torch.autocast(device.type, dtype=precision) if precision else nullcontext()
    meter = _Meter(settings, first)

    def snapshot(step: int) -> dict[str, Any]:
        return {
            "network": network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "ema": ema.weights,
            "step": step,
        }

    for step in range(first, settings.steps):
        with meter.waiting():
            batch = next(batches)
        for group in itertools.chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
            group["lr"] = learning_rate(settings, step)
        with autocast:
            loss = objective.loss(parallel, batch, step)
        network.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
        ema.update(network, step)
        progress = meter.update(step + 1, loss)
        if progress is not None:
            report(progress)
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            save(step + 1, lambda done=step + 1: snapshot(done))
    return ema.weights


class _Meter:
    """Averages the loss between two lines of the log and measures the rate and the wait for data."""

    def __init__(self, settings: StageConfig, first: int) -> None:
        self.settings, self.first = settings, first
        self.begun = self.last = time.perf_counter()
        self.waited, self.total, self.count = 0.0, 0.0, 0

    def waiting(self) -> _Waiting:
        return _Waiting(self)

    def update(self, step: int, loss: Tensor) -> Progress | None:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {step}; lower the learning rate or the precision.")
        self.total, self.count = self.total + value, self.count + 1
        if step % self.settings.log_every and step != self.settings.steps:
            return None
        now = time.perf_counter()
        elapsed = now - self.last
        progress = Progress(
            step=step,
            steps=self.settings.steps,
            loss=self.total / self.count,
            learning_rate=learning_rate(self.settings, step - 1),
            samples_per_second=self.count * self.settings.batch_size / elapsed,
            data_wait=self.waited / elapsed,
            seconds_left=(now - self.begun) / (step - self.first) * (self.settings.steps - step),
        )
        self.last, self.waited, self.total, self.count = now, 0.0, 0.0, 0
        return progress


class _Waiting:
    def __init__(self, meter: _Meter) -> None:
        self.meter = meter

    def __enter__(self) -> None:
        self.begun = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.meter.waited += time.perf_counter() - self.begun
