"""How a benchmark measures: loops in turns, several times, so that a busy moment of the machine hits all of them."""

from __future__ import annotations

import itertools
import logging
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

ROUNDS = 3
SECONDS = 3.0  # of each measurement


def rate(loop: Iterator[int], clock: Callable[[], float] = time.perf_counter) -> float:
    """Run a loop that yields how much it has done for `SECONDS` of a clock; returns that per second, warm."""
    next(loop)
    done, begun = 0, clock()
    while (elapsed := clock() - begun) < SECONDS:
        done += next(loop)
    return done / elapsed


def in_turns(measures: dict[str, Callable[[], float]]) -> dict[str, Any]:
    """Measure in turns, `ROUNDS` times; returns the medians."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _, (name, measure) in itertools.product(range(ROUNDS), measures.items()):
        values[name].append(measure())
    for name, several in values.items():
        logger.info("%s: %s", name, ", ".join(f"{value:.1f}" for value in several))
    return {name: round(statistics.median(several), 3) for name, several in values.items()}


def core_seconds() -> float:
    """Return the CPU time of this process and of those that it started, such as a game's engine.

    What other work does to the machine hardly shows in it. Where the system does not tell a living child's (other than
    Linux), it is the time on the clock.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        living = _children_seconds("self")
    except FileNotFoundError:
        return time.perf_counter()
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def _children_seconds(pid: str) -> float:
    total = 0.0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            tasks = Path(f"/proc/{child}/task").iterdir()
            total += sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
            total += _children_seconds(child)
    return total
