"""What the served game counts: the metrics of one replica, told by the batcher and the app."""

from __future__ import annotations

from gamengen import monitor
from gamengen.serve.batcher import BatchReport


class ServeMetrics:
    """Counts players, frames, batches and missed deadlines of one replica."""

    def __init__(self, game: str) -> None:
        self._game = game
        self.players(0)

    def observe(self, report: BatchReport) -> None:
        """Count one batch."""
        if report.failed:
            monitor.SERVE_FAILED_BATCHES.add(game=self._game)
            return
        monitor.SERVE_FRAMES.add(report.size, game=self._game)
        monitor.SERVE_LATE_FRAMES.add(report.late, game=self._game)
        monitor.SERVE_BATCH_SIZE.observe(report.size, game=self._game)
        monitor.SERVE_STEP_SECONDS.observe(report.model_seconds, game=self._game)
        for seconds in report.turn_seconds:
            monitor.SERVE_TURN_SECONDS.observe(seconds, game=self._game)

    def players(self, count: int) -> None:
        """Set the number of connected players."""
        monitor.SERVE_PLAYERS.set(count, game=self._game)

    def left(self, num_skipped: int) -> None:
        """Count what a player who leaves did not get."""
        monitor.SERVE_SKIPPED_FRAMES.add(num_skipped, game=self._game)

    def refused(self) -> None:
        """Count a connection that was not admitted."""
        monitor.SERVE_REFUSED_PLAYERS.add(game=self._game)
