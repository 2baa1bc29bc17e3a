"""One training loop for every stage, in plain torch: no Ray, no files. It goes on exactly where a state left off."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gamengen.config import StageConfig
from gamengen.data.stream import prefetched
from gamengen.train import flops
from gamengen.train.meter import Meter, Progress
from gamengen.train.optimizers import Ema, learning_rate, make_optimizers

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Objective:
    """What a stage trains.

    Attributes:
        network: the module whose parameters are trained and averaged; it is what `loss` calls.
        batches: (step, rank, world) -> one worker's batches from a global step on: tuples of tensors on the CPU, each
            with an entry per example.
        loss: (network, batch, step, examples) -> scalar, the mean over the batch, which lies on the network's device
            and holds the examples `examples` of the step's global batch. What is random depends on the step and on an
            example's place in the global batch alone: neither the number of workers nor accumulation changes it.
    """

    network: nn.Module
    batches: Callable[[int, int, int], Iterator[Batch]]
    loss: Callable[[nn.Module, Batch, int, slice], Tensor]


def fit(
    objective: Objective,
    settings: StageConfig,
    *,
    device: torch.device,
    precision: torch.dtype | None = None,
    rank: int = 0,
    world: int = 1,
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    compiled: bool = False,
    state: dict[str, Any] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    save: Callable[[int, Callable[[], dict[str, Any]]], None] = lambda step, get_state: None,
) -> dict[str, Tensor]:
    """Train to `settings.steps` and return the averaged weights.

    Args:
        precision: autocast's type, or None for float32.
        rank, world: which worker this is, of how many.
        wrap: makes the network data-parallel.
        compiled: run the network by torch.compile.
        state: what `save` was given earlier; training goes on after its step with the same batches and noise.
        report: called every `log_every` steps and at the end.
        save: called every `checkpoint_every` steps and at the end with the step and a function that makes the state.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: the batch cannot be shared out.
    """
    network, first = objective.network.to(device), 0
    share = _share(settings, world)
    optimizers, ema = make_optimizers(network, settings), Ema(network, settings.ema_decay)
    if state is not None:
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        ema.weights, first = {k: v.to(device) for k, v in state["ema"].items()}, state["step"]
    if first >= settings.steps:
        return ema.weights
    loaded = _loaded(objective.batches(first, rank, world), device)
    autocast = torch.autocast(device.type, dtype=precision) if precision else nullcontext()
    batch = next(loaded)
    examples = slice(rank * share * settings.accumulation, rank * share * settings.accumulation + share)
    with autocast:
        work = flops.of_step(objective.loss, network, tuple(part[:share] for part in batch), first, examples)
    meter = Meter(settings, first, work * settings.accumulation, flops.peak(device, precision), device, world)
    if compiled:
        network.compile(dynamic=False)
    parallel = wrap(network)

    def snapshot(step: int) -> dict[str, Any]:
        return {
            "network": network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "ema": ema.weights,
            "step": step,
        }

    for step in range(first, settings.steps):
        if step > first:
            with meter.waiting():
                batch = next(loaded)
        for group in itertools.chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
            group["lr"] = learning_rate(settings, step)
        network.zero_grad(set_to_none=True)
        for number in range(settings.accumulation):
            part = tuple(value[number * share : (number + 1) * share] for value in batch)
            start = (rank * settings.accumulation + number) * share
            with _gradients_shared(parallel, number + 1 == settings.accumulation):
                with autocast:
                    loss = objective.loss(parallel, part, step, slice(start, start + share)) / settings.accumulation
                loss.backward()
            meter.add(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
        ema.update(network, step)
        progress = meter.update(step + 1)
        if progress is not None:
            report(progress)
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            meter.check(step + 1)
            save(step + 1, lambda done=step + 1: snapshot(done))
    return ema.weights


def _share(settings: StageConfig, world: int) -> int:
    """Return the examples that a worker handles at once."""
    share, rest = divmod(settings.batch_size, world * settings.accumulation)
    if rest or not share:
        raise ValueError(
            f"batch_size {settings.batch_size} cannot be shared by {world} workers that accumulate the gradients of "
            f"{settings.accumulation} parts; expected a multiple of {world * settings.accumulation}."
        )
    return share


def _loaded(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Bring batches to the device. A thread makes them and, for a GPU, places them in pinned memory, from which a copy
    goes on while the GPU computes."""
    on_gpu = device.type == "cuda"
    pinned = (tuple(part.pin_memory() if on_gpu else part for part in batch) for batch in batches)
    for batch in prefetched(pinned):
        yield tuple(part.to(device, non_blocking=True) for part in batch)


def _gradients_shared(parallel: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Let workers exchange gradients in the last backward pass of a step alone."""
    if isinstance(parallel, nn.parallel.DistributedDataParallel) and not last:
        return parallel.no_sync()
    return nullcontext()
