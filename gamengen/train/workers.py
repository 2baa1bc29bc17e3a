"""How many workers train together, and what each counts for where a cluster gives more than can share the lanes."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from gamengen.config import Config
from gamengen.train.loop import Batch, Objective


def count(config: Config) -> int | tuple[int, int]:
    """Return how many workers Ray Train starts: a number, or the fewest and the most.

    Raises:
        ValueError: numbers that cannot share the lanes evenly.
    """
    given, lanes = config.train.num_workers, config.train.num_lanes
    fewest, most = (given, given) if isinstance(given, int) else given
    if not 1 <= fewest <= most:
        raise ValueError(f"train.num_workers, got {given}; expected a number, or [fewest, most], from 1 on.")
    for workers in (fewest, most):
        if lanes % workers:
            raise ValueError(
                f"{workers} workers cannot share {lanes} lanes evenly; "
                "expected a divisor. Change train.num_workers, or train.num_lanes in a new run."
            )
    return most if fewest == most else (fewest, most)


def sharing(config: Config, world: int) -> int:
    """Return how many of `world` workers share the lanes: the most that can do so evenly."""
    return max(workers for workers in range(1, world + 1) if config.train.num_lanes % workers == 0)


def weighted(objective: Objective, rank: int, world: int, share: int) -> Objective:
    """Weigh a worker's gradients where only `share` of `world` workers can share the lanes evenly.

    The workers that are too many repeat what others do and count for nothing, so that the mean of all gradients is that
    of the batch, as it is with fewer.
    """
    weight = world / share if rank < share else 0.0

    def loss(network: nn.Module, batch: Batch, step: int, examples: slice) -> Tensor:
        value = objective.loss(network, batch, step, examples)
        return value.detach() + weight * (value - value.detach())  # the log shows the loss as it is

    return objective if share == world else dataclasses.replace(objective, loss=loss)
