"""What an agent's learning looked like: its curve as JSON and as a picture, TensorBoard, and lines in the log."""

from __future__ import annotations

import io
import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.fs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from gamengen import storage
from gamengen.collect.agent_env import Episode

logger = logging.getLogger(__name__)

_MAX_POINTS = 1000  # of a curve; more are merged in pairs, so that its file stays small however long an agent learns
_LOG_SECONDS = 10.0
_LAST_EPISODES = 100  # whose mean the log shows
_BLUE, _ORANGE, _GREEN, _GREY = "#1f6feb", "#d9730d", "#2da44e", "#777777"
Point = dict[str, Any]


class LearningCurve:
    """The points of `learning.json`, one per iteration, in order.

    A point has `env_steps` and `seconds` (so far), `episodes` (that ended since the point before), of these the means
    `score`, `length` (in decisions) and `terms` (of the reward, by name), and the algorithm's `statistics`.

    Args:
        folder: of the agent; a curve that is there goes on.
        env_steps: how far the agent is: what was noted after its checkpoint is played again, and forgotten.
    """

    def __init__(self, folder: str, env_steps: int) -> None:
        self._folder = folder
        self.points = [point for point in noted(folder) if point["env_steps"] <= env_steps]
        files, path = storage.filesystem(f"{folder}/tensorboard")
        is_local = isinstance(files, pyarrow.fs.LocalFileSystem)
        self._board = SummaryWriter(path, purge_step=env_steps) if is_local else None
        self._recent: deque[float] = deque(maxlen=_LAST_EPISODES)

    @property
    def recent_score(self) -> float:
        """The mean of the last hundred episodes; NaN before the first."""
        return float(np.mean(self._recent)) if self._recent else math.nan

    def add(self, env_steps: int, seconds: float, episodes: Sequence[Episode], statistics: Mapping[str, float]) -> None:
        """Note an iteration."""
        self._recent.extend(episode.score for episode in episodes)
        terms = {name: _mean([episode.terms[name] for episode in episodes]) for name in _terms(episodes)}
        point: Point = {
            "env_steps": env_steps,
            "seconds": round(seconds, 1),
            "episodes": len(episodes),
            "score": _mean([episode.score for episode in episodes]),
            "length": _mean([episode.length for episode in episodes]),
            "terms": terms,
            "statistics": {name: _number(value) for name, value in statistics.items()},
        }
        self.points.append(point)
        if len(self.points) > _MAX_POINTS:
            self.points = merged(self.points)
        if self._board is not None:
            scalars = {"score": self.recent_score, "length": point["length"], **point["statistics"]}
            scalars |= {f"terms/{name}": value for name, value in terms.items()}
            for name, value in scalars.items():
                if value is not None:
                    self._board.add_scalar(f"agent/{name}", value, env_steps)

    def save(self) -> None:
        """Write `learning.json`."""
        storage.write_json(f"{self._folder}/learning.json", self.points)
        if self._board is not None:
            self._board.flush()


def noted(folder: str) -> list[Point]:
    """Return the points of an agent's `learning.json`; none if it is not there."""
    try:
        return storage.read_json(f"{folder}/learning.json")
    except FileNotFoundError:
        return []


class Progress:
    """Says every ten seconds how far the training is."""

    def __init__(self, env_steps: int, episodes: int, max_env_steps: int, num_episodes: int) -> None:
        self._first_steps, self._first_episodes = env_steps, episodes
        self._max_env_steps, self._num_episodes = max_env_steps, num_episodes
        self._begun, self._last = time.monotonic(), 0.0

    def log(self, env_steps: int, episodes: int, curve: LearningCurve) -> None:
        now = time.monotonic()
        if now - self._last < _LOG_SECONDS or env_steps == self._first_steps:
            return
        self._last = now
        seconds = now - self._begun
        rate = (env_steps - self._first_steps) / seconds
        left = (self._max_env_steps - env_steps) / rate
        left = min(left, (self._num_episodes - episodes) * seconds / max(episodes - self._first_episodes, 1))
        statistics = "".join(f", {name} {value:.2f}" for name, value in curve.points[-1]["statistics"].items())
        logger.info(
            "%d of %d episodes, %d of %d steps, %.0f steps/s, mean score %.1f%s, %.0f s left",
            *(episodes, self._num_episodes, env_steps, self._max_env_steps, rate),
            *(curve.recent_score, statistics, max(left, 0)),
        )


def merged(points: Sequence[Point]) -> list[Point]:
    """Return a curve of half as many points; each stands for two, and means are weighted by their episodes."""
    pairs = [points[place : place + 2] for place in range(0, len(points), 2)]
    return [_merge(*pair) if len(pair) == 2 else pair[0] for pair in pairs]


def _merge(first: Point, second: Point) -> Point:
    weights = [first["episodes"], second["episodes"]]
    names = list(first["terms"]) or list(second["terms"])
    merged_terms = {name: _mean([point["terms"].get(name) for point in (first, second)], weights) for name in names}
    return {
        "env_steps": second["env_steps"],
        "seconds": second["seconds"],
        "episodes": sum(weights),
        **{name: _mean([first[name], second[name]], weights) for name in ("score", "length")},
        "terms": merged_terms,
        "statistics": {
            name: _mean([first["statistics"].get(name), value]) for name, value in second["statistics"].items()
        },
    }


def _mean(values: Sequence[float | None], weights: Sequence[float] | None = None) -> float | None:
    """Return the mean of what is known, which JSON can hold; None if nothing is."""
    weights = [1.0] * len(values) if weights is None else weights
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None and weight]
    total = sum(weight for _, weight in known)
    return _number(sum(value * weight for value, weight in known) / total) if known else None


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _terms(episodes: Sequence[Episode]) -> list[str]:
    """Return the reward's terms in their order; a scenario's episodes all have the same."""
    return list(dict.fromkeys(name for episode in episodes for name in episode.terms))


def picture(points: Sequence[Point], title: str, scores: Mapping[str, tuple[float, float]]) -> bytes:
    """Draw a curve as a PNG.

    Args:
        scores: what was measured at the end, name -> (mean, its standard error): lines across the panel of the score.
    """
    terms = [name for name in (points[-1]["terms"] if points else {})]
    statistics = list(points[-1]["statistics"]) if points else []
    panels = ["score", "length", *statistics, *(["terms"] if len(terms) > 1 else [])]
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(11, 3.2 * rows + 0.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for panel, axes in zip(panels, figure.subplots(rows, 2, squeeze=False).flat, strict=False):
        if panel == "score":
            _curve(axes, points, [point["score"] for point in points], "episodes while it learns", _BLUE)
            for (name, (mean, error)), colour in zip(scores.items(), (_GREEN, _GREY), strict=False):
                axes.axhline(mean, color=colour, linestyle="--", label=f"{name}: {mean:.1f} ± {error:.1f}")
                axes.axhspan(mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
            axes.legend(fontsize=8)
        elif panel == "length":
            _curve(axes, points, [point["length"] for point in points], "", _ORANGE)
        elif panel == "terms":
            _bands(axes, points, terms)
        else:
            _curve(axes, points, [point["statistics"].get(panel) for point in points], "", _GREY)
        labels = {"score": "mean score", "length": "decisions per episode", "terms": "reward by terms, per episode"}
        axes.set(xlabel="decisions", ylabel=labels.get(panel, panel.replace("_", " ")))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[len(panels) :]:
        axes.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _bands(axes: Any, points: Sequence[Point], terms: Sequence[str]) -> None:
    for number, name in enumerate(terms):
        x, y = _known(points, [point["terms"].get(name) for point in points])
        axes.plot(x, _smooth(y), color=f"C{number}", label=name, linewidth=1.2)
    axes.set_yscale("symlog", linthresh=100)  # a death costs 5,000, a cell pays 20
    axes.legend(fontsize=6, ncols=2)


def _curve(axes: Any, points: Sequence[Point], values: Sequence[float | None], label: str, colour: str) -> None:
    """Draw every point pale, and what they are around."""
    x, y = _known(points, values)
    axes.plot(x, y, ".", color=colour, alpha=0.3, markersize=3)
    axes.plot(x, _smooth(y), color=colour, label=label or None)


def _known(points: Sequence[Point], values: Sequence[float | None]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(point["env_steps"], value) for point, value in zip(points, values, strict=True) if value is not None]
    return np.array([steps for steps, _ in pairs]), np.array([value for _, value in pairs], np.float64)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the means around each value, over a twentieth of all on either side."""
    reach = len(values) // 20
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - reach, 0)
    high = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
