"""The metrics against values worked out by hand or by definition."""

import numpy as np
import pytest

from gamengen import metrics


def frames(value: int, shape: tuple[int, ...] = (2, 16, 24, 3)) -> np.ndarray:
    return np.full(shape, value, np.uint8)


def test_psnr_of_a_known_error() -> None:
    assert metrics.psnr(frames(100), frames(110)) == pytest.approx([10 * np.log10(255**2 / 100)] * 2)
    assert metrics.psnr(frames(0), frames(255)) == pytest.approx([0.0, 0.0])


def test_psnr_is_per_frame_and_capped_where_frames_are_identical() -> None:
    a, b = frames(10), frames(10)
    b[1] += 5
    assert metrics.psnr(a, b) == pytest.approx([metrics.MAX_PSNR, 10 * np.log10(255**2 / 25)])


def test_ssim_of_constant_frames_is_the_luminance_term() -> None:
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert metrics.ssim(frames(100), frames(120)) == pytest.approx([expected] * 2, abs=1e-5)


def test_ssim_by_the_definition_at_one_position() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 1, 11, 11, 3), dtype=np.uint8)  # the window fits exactly once
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for channel in range(3):
        x, y = a[0, :, :, channel].astype(float), b[0, :, :, channel].astype(float)
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        cov = (window * (x - mx) * (y - my)).sum()
        c1, c2 = 2.55**2, 7.65**2
        values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert metrics.ssim(a, b) == pytest.approx([np.mean(values)], abs=1e-5)
    assert metrics.ssim(a, a) == pytest.approx([1.0], abs=1e-5)


def test_sharpness_of_edges_noise_and_blur() -> None:
    assert metrics.sharpness(frames(100)) == pytest.approx([0.0, 0.0])
    edge = frames(0, (1, 16, 24, 3))
    edge[:, :, 12:] = 110  # both columns beside the edge are off by its height, of 22 that have two neighbours
    assert metrics.sharpness(edge) == pytest.approx([2 * 110 / 22])
    ramp = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None] * 7, (1, 16, 24, 3))
    assert metrics.sharpness(ramp) == pytest.approx([0.0])
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    mean = noise.mean(axis=0, keepdims=True).astype(np.uint8)
    assert metrics.sharpness(mean)[0] < 0.7 * metrics.sharpness(noise).min()


def test_bootstrap_interval_holds_the_mean_and_narrows() -> None:
    values = np.random.default_rng(1).normal(5, 1, 1000)
    low, high = metrics.bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(1000), rel=0.15)
    assert metrics.bootstrap_interval(np.full(3, 2.0)) == (2.0, 2.0)


def test_an_interval_over_kinds_is_of_the_mean_of_their_means() -> None:
    kinds = np.array([0] * 21 + [1] * 21 + [2] * 8)
    assert metrics.bootstrap_interval(np.ones(50), kinds) == (1.0, 1.0)
    low, high = metrics.bootstrap_interval((kinds == 2).astype(float), kinds)
    assert low == high == pytest.approx(1 / 3)
    assert metrics.bootstrap_interval(np.arange(50.0), np.zeros(50)) == metrics.bootstrap_interval(np.arange(50.0))


def test_bad_input_says_what_is_expected() -> None:
    with pytest.raises(ValueError, match="expected twice the same uint8"):
        metrics.psnr(frames(1), frames(1)[:1])
    with pytest.raises(ValueError, match="at least one number"):
        metrics.bootstrap_interval(np.zeros(0))
