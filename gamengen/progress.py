"""Progress lines of long work: how far, how fast, how long still, at most one every few seconds; knows no phase."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)
_EVERY = 5.0  # seconds


class Progress:
    """Tells how much of `total` is done, in `unit`s."""

    def __init__(self, name: str, total: int, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._begun = self._told = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begun

    def tell(self, done: int) -> None:
        """Log a line if the last one is a while ago, or all is done."""
        now = time.perf_counter()
        if now - self._told < _EVERY and done < self._total:
            return
        self._told, rate = now, done / max(now - self._begun, 1e-6)
        logger.info(
            "%s: %d of %d %s, %.0f per second, %.0f s left",
            self._name, done, self._total, self._unit, rate, (self._total - done) / rate,
        )  # fmt: skip
