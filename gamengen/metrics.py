"""How alike two pictures are, and how sure a mean is: plain functions over arrays, of no game and no phase."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

MAX_PSNR = 60.0  # dB: a quarter of a grey level; identical pictures count as this, so that a mean stays finite
_WINDOW, _SIGMA = 11, 1.5  # of SSIM, as in Wang et al. 2004
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr_of(mean_squared_error: np.ndarray | float) -> np.ndarray:
    """Return PSNR in dB for mean squared errors of 8-bit values, at most `MAX_PSNR`."""
    floor = 255.0**2 / 10 ** (MAX_PSNR / 10)
    return 10 * np.log10(255.0**2 / np.maximum(mean_squared_error, floor))


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return PSNR in dB of each pair of frames, uint8 [N, H, W, 3] twice -> float64 [N]."""
    _check(a, b)
    errors = [
        np.square(x.astype(np.float32) - y.astype(np.float32)).mean(dtype=np.float64) for x, y in zip(a, b, strict=True)
    ]
    return psnr_of(np.asarray(errors, np.float64))


@torch.inference_mode()
def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return SSIM of each pair of frames, uint8 [N, H, W, 3] twice -> float64 [N].

    Wang et al. 2004: Gaussian window of 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, where the window fits; mean over
    positions and channels.
    """
    _check(a, b)
    offsets = torch.arange(_WINDOW) - _WINDOW // 2
    line = torch.exp(-offsets.double().square() / (2 * _SIGMA**2))
    line /= line.sum()

    def blur(images: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(images, line[None, None, :, None]), line[None, None, None, :])

    values = []
    for x, y in zip(a, b, strict=True):  # frame by frame: double precision of all frames would not fit
        x, y = (torch.from_numpy(frame.astype(np.float64)).movedim(-1, 0)[:, None] for frame in (x, y))
        mean_x, mean_y = blur(x), blur(y)
        var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
        covariance = blur(x * y) - mean_x * mean_y
        top = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
        values.append(float((top / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))).mean()))
    return np.asarray(values, np.float64)


def bootstrap_interval(
    values: np.ndarray, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of values [N]; raises ValueError for no values."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values, got shape {values.shape}; expected a list of at least one number.")
    picks = np.random.default_rng(seed).integers(len(values), size=(num_resamples, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[picks].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape or a.ndim != 4 or a.shape[-1] != 3 or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(
            f"frames, got {a.dtype} {a.shape} and {b.dtype} {b.shape}; expected twice the same uint8 [N, H, W, 3]."
        )
