"""Tells how a training goes: lines of the log, metrics, TensorBoard's events, and the figures that the folder keeps."""

from __future__ import annotations

import logging
import statistics
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from gamengen import monitor
from gamengen.config import Config
from gamengen.train.meter import Progress

logger = logging.getLogger(__name__)
_METRICS = {  # by the field of Progress
    "step": monitor.TRAIN_STEP,
    "loss": monitor.TRAIN_LOSS,
    "learning_rate": monitor.TRAIN_LEARNING_RATE,
    "samples_per_second": monitor.TRAIN_SAMPLES_PER_SECOND,
    "data_wait": monitor.TRAIN_DATA_WAIT,
    "mfu": monitor.TRAIN_MFU,
    "memory_gb": monitor.TRAIN_MEMORY_GB,
    "seconds_left": monitor.TRAIN_SECONDS_LEFT,
}


class Log:
    """Progress lines, and TensorBoard's events beside the model where the storage is a local folder."""

    def __init__(self, config: Config, stage: str) -> None:
        self.stage = stage
        self.labels = {"run": config.run, "stage": stage}
        self.lines: list[Progress] = []
        local = "://" not in config.storage
        self.writer = SummaryWriter(f"{config.folder}/tensorboard/{stage}") if local else None

    def report(self, progress: Progress) -> None:
        self.lines.append(progress)
        logger.info(
            "%s: step %d of %d, loss %.4f, %.0f samples per second, waiting for data %.0f %%, MFU %.1f %%, %.1f GB, "
            "%.0f s left",
            self.stage, progress.step, progress.steps, progress.loss, progress.samples_per_second,
            100 * progress.data_wait, 100 * progress.mfu, progress.memory_gb, progress.seconds_left,
        )  # fmt: skip
        for name, metric in _METRICS.items():
            metric.set(getattr(progress, name), **self.labels)
        if self.writer is not None:
            for name in ("loss", "learning_rate", "samples_per_second", "data_wait", "mfu", "memory_gb"):
                self.writer.add_scalar(name, getattr(progress, name), progress.step)
            self.writer.flush()

    def figures(self) -> dict[str, Any]:
        if not self.lines:  # resumed after the last step
            return {}
        return {
            "loss": round(self.lines[-1].loss, 5),
            "samples_per_second": round(statistics.median(line.samples_per_second for line in self.lines), 1),
            "data_wait": round(statistics.median(line.data_wait for line in self.lines), 4),
            "mfu": round(statistics.median(line.mfu for line in self.lines), 4),
            "memory_gb": round(self.lines[-1].memory_gb, 2),
        }
