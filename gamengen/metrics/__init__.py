"""How alike two pictures are, how sharp one is, and how sure a mean is: plain functions over arrays, of no game and no
phase.

Metrics that need trained weights have files of their own: `perceptual` (LPIPS) and `fvd`.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch.nn import functional as F

MAX_PSNR = 60.0  # dB: a quarter of a grey level; identical pictures count as this, so that a mean stays finite
_WINDOW, _SIGMA = 11, 1.5  # of SSIM, as in Wang et al. 2004
_CENTRE = 127.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr_of(mean_squared_error: np.ndarray | float) -> np.ndarray:
    """Return PSNR in dB for mean squared errors of 8-bit values, at most `MAX_PSNR`."""
    floor = 255.0**2 / 10 ** (MAX_PSNR / 10)
    return 10 * np.log10(255.0**2 / np.maximum(mean_squared_error, floor))


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return PSNR in dB of each pair of frames, uint8 [N, H, W, 3] twice -> float64 [N]."""
    check_frames(a, b)
    errors = [
        np.square(x.astype(np.float32) - y.astype(np.float32)).mean(dtype=np.float64) for x, y in zip(a, b, strict=True)
    ]
    return psnr_of(np.asarray(errors, np.float64))


@torch.inference_mode()
def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return SSIM of each pair of frames, uint8 [N, H, W, 3] twice -> float64 [N], good to 1e-5.

    Wang et al. 2004: Gaussian window of 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, where the window fits; mean over
    positions and channels.
    """
    check_frames(a, b)
    return np.array([_ssim(x, y) for x, y in zip(a, b, strict=True)], np.float64)


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of two frames uint8 [H, W, 3].

    All maps go through the window together, as the channels of one depthwise convolution, in single precision: three
    times as fast as one by one in double. Values around zero keep the variances exact enough.
    """
    x, y = (torch.from_numpy(frame.astype(np.float32)).movedim(-1, 0) - _CENTRE for frame in (a, b))
    maps = torch.cat([x, y, x * x, y * y, x * y])[None].contiguous(memory_format=torch.channels_last)
    rows, columns = _blurs(maps.shape[1])
    blurred = F.conv2d(F.conv2d(maps, rows, groups=len(rows)), columns, groups=len(columns))[0].double()
    mean_x, mean_y, xx, yy, xy = blurred.chunk(5)
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    mean_x, mean_y = mean_x + _CENTRE, mean_y + _CENTRE
    top = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return float((top / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))).mean())


@functools.cache
def _blurs(channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Gaussian window as kernels along rows and along columns, for depthwise convolution."""
    offsets = torch.arange(_WINDOW) - _WINDOW // 2
    line = torch.exp(-offsets.double().square() / (2 * _SIGMA**2))
    line = (line / line.sum()).float().expand(channels, 1, _WINDOW)
    return line[..., None].contiguous(), line[:, :, None].contiguous()


def sharpness(frames: np.ndarray) -> np.ndarray:
    """Return how sharp each frame is, uint8 [N, H, W, 3] -> float64 [N], in grey levels: 0 for one of a single colour.

    Nayar and Nakagawa 1994, "Shape from Focus": the modified Laplacian |2 I - I_left - I_right| + |2 I - I_up - I_down|
    of the mean of the channels, the mean over positions. PSNR and SSIM are best for the mean of all pictures that may
    be, which is blurred; this tells one from a picture.
    """
    check_frames(frames, frames)
    return np.array([_sharpness(frame) for frame in frames], np.float64)


def _sharpness(frame: np.ndarray) -> float:
    grey = frame.mean(axis=-1, dtype=np.float32)
    across, down = (np.abs(np.diff(grey, 2, axis)).mean(dtype=np.float64) for axis in (1, 0))
    return float(across + down)


def bootstrap_interval(
    values: np.ndarray,
    kinds: np.ndarray | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of values [N]; raises ValueError for no values.

    With their `kinds` [N] it is that of the mean of each kind's mean, and every kind keeps its number of values.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values, got shape {values.shape}; expected a list of at least one number.")
    rng = np.random.default_rng(seed)
    groups = [values] if kinds is None else [values[kinds == kind] for kind in np.unique(kinds)]
    drawn = [group[rng.integers(len(group), size=(num_resamples, len(group)))].mean(axis=1) for group in groups]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.mean(drawn, axis=0), [tail, 1 - tail])
    return float(low), float(high)


def check_frames(a: np.ndarray, b: np.ndarray) -> None:
    """Raise a ValueError unless both are uint8 [N, H, W, 3] of one shape."""
    if a.shape != b.shape or a.ndim != 4 or a.shape[-1] != 3 or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(
            f"frames, got {a.dtype} {a.shape} and {b.dtype} {b.shape}; expected twice the same uint8 [N, H, W, 3]."
        )
