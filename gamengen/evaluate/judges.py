"""The metrics of a measurement: what scores a frame or a clip, and why a metric that needs weights is missing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from gamengen import metrics
from gamengen.config import EvaluateConfig
from gamengen.metrics.fvd import VideoFeatures
from gamengen.metrics.perceptual import Lpips
from gamengen.metrics.weights import MissingWeights

logger = logging.getLogger(__name__)
_Metric = TypeVar("_Metric")


@dataclass
class Scores:
    """How near pictures come to the recorded ones, one value each, all of one shape; NaN where not measured.

    `sharpness` is of the picture alone, and to be held against that of a copy, which is a recorded one.
    """

    psnr: np.ndarray
    ssim: np.ndarray
    lpips: np.ndarray
    sharpness: np.ndarray


@dataclass(frozen=True)
class Judges:
    """PSNR, SSIM, sharpness, and what needs weights: None where those are missing, and `reasons` says why by metric."""

    lpips: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    videos: Callable[[np.ndarray], np.ndarray] | None = None
    reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, settings: EvaluateConfig) -> Judges:
        """Load the metrics that the settings ask for; raises ValueError for files that are not what they should be."""
        reasons: dict[str, str] = {}
        device = "cuda" if settings.use_gpu else "cpu"

        def loaded(name: str, metric: Callable[[str | None, str], _Metric], setting: str | None) -> _Metric | None:
            try:
                return metric(setting, device)
            except MissingWeights as missing:
                reasons[name] = str(missing)
                return None

        return cls(loaded("lpips", Lpips, settings.lpips), loaded("fvd", VideoFeatures, settings.fvd), reasons)

    def score(self, frames: np.ndarray, real: np.ndarray) -> Scores:
        """Compare frames with the recorded ones, uint8 [N, H, W, 3] twice -> [N]."""
        lpips = np.full(len(frames), np.nan) if self.lpips is None else self.lpips(frames, real)
        return Scores(metrics.psnr(frames, real), metrics.ssim(frames, real), lpips, metrics.sharpness(frames))
