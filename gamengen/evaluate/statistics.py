"""Means and their intervals as they stand in a summary: rounded, and None where nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gamengen import metrics
from gamengen.evaluate.judges import Scores


def mean(values: np.ndarray) -> float | None:
    """Return the mean of what is not NaN."""
    known = _known(values)
    return rounded(np.mean(known)) if len(known) else None


def interval(values: np.ndarray, kinds: np.ndarray | None = None) -> list[float] | None:
    """Return the 95 % bootstrap interval of the mean of what is not NaN; with `kinds`, of the mean of their means."""
    known = _known(values)
    return [round(bound, 4) for bound in metrics.bootstrap_interval(known, kinds)] if len(known) else None


def rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def by_horizon(horizons: Sequence[int], values: np.ndarray, figure: Any) -> dict[str, Any]:
    """Return a figure (`mean` or `interval`) of each horizon's values [N, horizons]."""
    return {str(horizon): figure(values[:, i]) for i, horizon in enumerate(horizons)}


def of_scores(scores: Mapping[str, Scores]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return means and intervals of scores by their suffix: {"": ..., "_copy_last": ...} -> psnr, psnr_copy_last ..."""
    means, intervals = {}, {}
    for name in Scores.__dataclass_fields__:
        for suffix, part in scores.items():
            means[f"{name}{suffix}"] = mean(getattr(part, name))
            intervals[f"{name}{suffix}"] = interval(getattr(part, name))
    return means, intervals


def _known(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values[~np.isnan(values)]
