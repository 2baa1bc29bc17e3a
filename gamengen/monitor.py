"""Names every metric and hands it to Ray, which gives it to Prometheus; knows no phase and no dashboard.

Ray adds a prefix and labels of its own: `gamengen_collect_frames` here is `ray_gamengen_collect_frames_total` in
Prometheus, with `NodeAddress` and `WorkerId`; `Metric.series` is that name. A value is out some ten seconds later.

To record is to keep a number in this process: a few microseconds, and nothing at all where no Ray runs. It never
raises: a phase goes on without its figures.
"""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray.util import metrics

logger = logging.getLogger(__name__)


class Metric:
    """A metric of Ray, made when it is first used in a process."""

    kind: type[metrics.Metric]
    suffix = ""  # that Prometheus' name has beside ours

    def __init__(self, name: str, description: str, labels: tuple[str, ...], **options: Any) -> None:
        self.name, self.description, self.labels = f"gamengen_{name}", description, labels
        self._options = options
        self._made: Any = None
        self._told = False
        ALL[self.name] = self

    @property
    def series(self) -> str:
        """The name in Prometheus."""
        return f"ray_{self.name}{self.suffix}"

    def _record(self, method: str, value: float, labels: dict[str, str]) -> None:
        if not ray.is_initialized():
            return
        try:
            if self._made is None:
                self._made = self.kind(self.name, self.description, tag_keys=self.labels, **self._options)
            getattr(self._made, method)(value, tags=labels)
        except Exception:  # whatever it is, it is not worth a frame
            if not self._told:
                logger.warning("the metric %s is not recorded", self.name, exc_info=True)
            self._told = True


class Counter(Metric):
    """A sum that only grows; starts at zero in every process, so ask for its rate or increase."""

    kind = metrics.Counter
    suffix = "_total"

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count `amount`; nothing at zero."""
        if amount > 0:
            self._record("inc", amount, labels)


class Gauge(Metric):
    """A value that rises and falls."""

    kind = metrics.Gauge

    def set(self, value: float, **labels: str) -> None:
        """Set what it is now."""
        self._record("set", value, labels)


class Histogram(Metric):
    """How often a value lay in which of some buckets, by their upper ends."""

    kind = metrics.Histogram
    suffix = "_bucket"

    def observe(self, value: float, **labels: str) -> None:
        """Count one value."""
        self._record("observe", value, labels)


ALL: dict[str, Metric] = {}  # by name, in the order below

# Recording: `source` is who played (collect, agent, import), `node` the address of the machine that did.
_RECORDED = ("run", "source", "node")
COLLECT_FRAMES = Counter("collect_frames", "frames recorded", _RECORDED)
COLLECT_EPISODES = Counter("collect_episodes", "episodes recorded", _RECORDED)
COLLECT_BYTES = Counter("collect_bytes", "bytes of recorded frames, encoded", _RECORDED)
COLLECT_FRAMES_LEFT = Gauge("collect_frames_left", "frames that a collection at work is still to record", ("run",))

AGENT_ENV_STEPS = Gauge("agent_env_steps", "decisions that the agent has learnt from", ("run",))
AGENT_SCORE = Gauge("agent_score", "mean score of the agent's last hundred episodes", ("run",))

ENCODE_FRAMES = Counter("encode_frames", "frames turned into latents", ("run",))

_TRAINED = ("run", "stage")
TRAIN_STEP = Gauge("train_step", "optimizer steps done", _TRAINED)
TRAIN_LOSS = Gauge("train_loss", "mean loss since the line of the log before", _TRAINED)
TRAIN_LEARNING_RATE = Gauge("train_learning_rate", "learning rate of the last step", _TRAINED)
TRAIN_SAMPLES_PER_SECOND = Gauge("train_samples_per_second", "examples per second of all workers", _TRAINED)
TRAIN_DATA_WAIT = Gauge("train_data_wait", "share of the time that is spent waiting for data", _TRAINED)
TRAIN_MFU = Gauge("train_mfu", "share of what a worker's device can do at most that the model's own FLOP are", _TRAINED)
TRAIN_MEMORY_GB = Gauge("train_memory_gb", "the most that a worker has held, of its GPU or of its process", _TRAINED)
TRAIN_SECONDS_LEFT = Gauge("train_seconds_left", "seconds until the last step", _TRAINED)
TRAIN_NOT_FINITE = Counter("train_not_finite", "workers that a loss which is no number has ended", _TRAINED)

_SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 32]
_SECONDS = [0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0]
_SERVED = ("game",)
SERVE_PLAYERS = Gauge("serve_players", "players that are connected", _SERVED)
SERVE_FRAMES = Counter("serve_frames", "frames made for players", _SERVED)
SERVE_LATE_FRAMES = Counter("serve_late_frames", "real-time frames after their deadline", _SERVED)
SERVE_SKIPPED_FRAMES = Counter("serve_skipped_frames", "real-time ticks without a frame", _SERVED)
SERVE_REFUSED_PLAYERS = Counter("serve_refused_players", "connections not admitted", _SERVED)
SERVE_FAILED_BATCHES = Counter("serve_failed_batches", "batches on which the model failed", _SERVED)
SERVE_BATCH_SIZE = Histogram("serve_batch_size", "players in one step of the engine", _SERVED, boundaries=_SIZES)
SERVE_STEP_SECONDS = Histogram("serve_step_seconds", "time of one step of the engine", _SERVED, boundaries=_SECONDS)
SERVE_TURN_SECONDS = Histogram(
    "serve_turn_seconds", "from a player's action to its frame, encoded", _SERVED, boundaries=_SECONDS
)
