"""What the served game reports to Ray's metrics, and so to Prometheus; the names carry Ray's prefix `ray_` there."""

from __future__ import annotations

from ray.util import metrics

from gamengen.serve.batcher import BatchReport

_SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 32]
_SECONDS = [0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0]


class ServeMetrics:
    """Counts players, frames, batches and missed deadlines of one replica."""

    def __init__(self, game: str) -> None:
        tags = {"game": game}
        self._players = metrics.Gauge("gamengen_serve_players", "players that are connected", ("game",))
        self._frames = metrics.Counter("gamengen_serve_frames", "frames made for players", ("game",))
        self._late = metrics.Counter("gamengen_serve_late_frames", "real-time frames after their deadline", ("game",))
        self._skipped = metrics.Counter("gamengen_serve_skipped_frames", "real-time ticks without a frame", ("game",))
        self._refused = metrics.Counter("gamengen_serve_refused_players", "connections not admitted", ("game",))
        self._failed = metrics.Counter("gamengen_serve_failed_batches", "batches on which the model failed", ("game",))
        self._batch = metrics.Histogram(
            "gamengen_serve_batch_size", "players in one step of the engine", [1, 2, 3, 4, 6, 8, 12, 16, 32], ("game",)
        )
        self._step = metrics.Histogram(
            "gamengen_serve_step_seconds", "time of one step of the engine", _SECONDS, ("game",)
        )
        for metric in vars(self).values():
            metric.set_default_tags(tags)
        self._players.set(0)

    def observe(self, report: BatchReport) -> None:
        """Count one batch."""
        if report.failed:
            self._failed.inc()
            return
        self._frames.inc(report.size)
        self._batch.observe(report.size)
        self._step.observe(report.model_seconds)
        if report.late:
            self._late.inc(report.late)

    def players(self, count: int) -> None:
        """Set the number of connected players."""
        self._players.set(count)

    def left(self, num_skipped: int) -> None:
        """Count what a player who leaves did not get."""
        if num_skipped:
            self._skipped.inc(num_skipped)

    def refused(self) -> None:
        """Count a connection that was not admitted."""
        self._refused.inc()
