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
from gamengen.train import flops, states
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
        prepare: (batch, step, examples) -> batch, what the network itself adds to a batch before it learns from it;
            runs without gradients, and equally often on all workers. What it computes does not count for MFU.
        begin: (device) -> what is done to the network before the first step, once; the same on all workers.
    """

    network: nn.Module
    batches: Callable[[int, int, int], Iterator[Batch]]
    loss: Callable[[nn.Module, Batch, int, slice], Tensor]
    prepare: Callable[[Batch, int, slice], Batch] = lambda batch, step, examples: batch
    begin: Callable[[torch.device], None] = lambda device: None


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
        wrap: makes the network data-parallel, or shards it.
        compiled: run the network by torch.compile.
        state: what `save` was given earlier; training goes on after its step with the same batches and noise.
        report: called every `log_every` steps and at the end.
        save: called every `checkpoint_every` steps and at the end with the step and a function that makes the state,
            which every worker of a sharded training must call.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: the batch cannot be shared out.
    """
    network, first = objective.network.to(device), 0 if state is None else state["step"]
    _check_batch(settings, world)
    if state is None:
        objective.begin(device)
    else:
        network.load_state_dict(state["network"])
    if first >= settings.steps:
        return network.state_dict() if state is None else state["ema"]
    loaded = _loaded(objective.batches(first, rank, world), device)
    autocast = torch.autocast(device.type, dtype=precision) if precision else nullcontext()
    batch = next(loaded)
    part, examples = _parts(batch, settings.accumulation, rank)[0]
    with autocast:
        part = _prepared(objective, part, first, examples)
        work = flops.of_step(objective.loss, network, part, first, examples)
    meter = Meter(settings, first, work * settings.accumulation, flops.peak(device, precision), device, world)
    if compiled:
        network.compile(dynamic=False)
    parallel = wrap(network)
    optimizers, ema = make_optimizers(network, settings), Ema(network, settings.ema_decay)
    if state is not None:
        states.restore(state, network, optimizers, ema)
    for step in range(first, settings.steps):
        if step > first:
            with meter.waiting():
                batch = next(loaded)
        for group in itertools.chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
            group["lr"] = learning_rate(settings, step)
        network.zero_grad(set_to_none=True)
        for loss in _gradients(objective, parallel, _parts(batch, settings.accumulation, rank), step, autocast):
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
            save(step + 1, lambda done=step + 1: states.save(network, optimizers, ema, done))
    return states.whole(ema.weights)


def _gradients(
    objective: Objective,
    parallel: nn.Module,
    parts: list[tuple[Batch, slice]],
    step: int,
    autocast: AbstractContextManager[Any],
) -> Iterator[Tensor]:
    """Add up the gradients of a step's parts; yields each part's share of the loss."""
    for number, (part, examples) in enumerate(parts, start=1):
        with _gradients_shared(parallel, number == len(parts)):
            with autocast:
                part = _prepared(objective, part, step, examples)
                loss = objective.loss(parallel, part, step, examples) / len(parts)
            loss.backward()
        yield loss


@torch.no_grad()
def _prepared(objective: Objective, part: Batch, step: int, examples: slice) -> Batch:
    return objective.prepare(part, step, examples)


def _check_batch(settings: StageConfig, world: int) -> None:
    if settings.batch_size % (world * settings.accumulation):
        raise ValueError(
            f"batch_size {settings.batch_size} cannot be shared by {world} workers that accumulate the gradients of "
            f"{settings.accumulation} parts; expected a multiple of {world * settings.accumulation}."
        )


def _parts(batch: Batch, count: int, rank: int) -> list[tuple[Batch, slice]]:
    """Return the parts of a worker's batch, each with its place in the global batch."""
    size = len(batch[0]) // count
    starts = [(rank * count + number) * size for number in range(count)]
    pieces = zip(*(value.split(size) for value in batch), strict=True)
    return [(piece, slice(start, start + size)) for piece, start in zip(pieces, starts, strict=True)]


def _loaded(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Bring batches to the device, the next ones while it computes."""
    for batch in prefetched(_pinned(batches, device) if device.type == "cuda" else batches):
        yield tuple(part.to(device, non_blocking=True) for part in batch)


def _pinned(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Place batches in pinned memory, from which a GPU copies by itself; runs in the thread that makes the batches."""
    torch.cuda.set_device(device)  # of this thread, which would take the first GPU
    for batch in batches:
        yield tuple(part.pin_memory() for part in batch)


def _gradients_shared(parallel: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Let workers exchange gradients in the last backward pass of a step alone."""
    if isinstance(parallel, nn.parallel.DistributedDataParallel) and not last:
        return parallel.no_sync()
    return nullcontext()
