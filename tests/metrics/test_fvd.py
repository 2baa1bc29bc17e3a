"""FVD: the distance of Gaussians that are known, clips through a small TorchScript, and scripts nobody vouched for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gamengen.metrics.fvd import USUAL, VideoFeatures, frechet_distance, gaussian_distance
from gamengen.metrics.weights import MissingWeights


class Script(nn.Module):
    """Of I3D's interface: the mean of each colour, and how much changes from frame to frame."""

    def forward(self, clips: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert rescale and resize and return_features
        change = (clips[:, :, 1:] - clips[:, :, :-1]).abs().mean((1, 2, 3, 4))
        return torch.cat([clips.mean((2, 3, 4)), change[:, None]], 1)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a TorchScript with its checksum, as one trusts it."""
    path = tmp_path_factory.mktemp("i3d") / "small.pt"
    torch.jit.script(Script()).save(str(path))
    return f"{path}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_distance_of_known_gaussians() -> None:
    """Of independent ones it is the sum of (difference of means)^2 + (difference of deviations)^2."""
    mean_a, mean_b = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 6.0])
    dev_a, dev_b = np.array([1.0, 2.0, 0.0]), np.array([3.0, 2.0, 0.5])
    expected = 4 + 9 + 4 + 0.25
    assert gaussian_distance(mean_a, np.diag(dev_a**2), mean_b, np.diag(dev_b**2)) == pytest.approx(expected)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))  # the same, seen from another side
    turned = (turn @ np.diag(dev**2) @ turn.T for dev in (dev_a, dev_b))
    assert gaussian_distance(turn @ mean_a, next(turned), turn @ mean_b, next(turned)) == pytest.approx(expected)


def test_distance_of_drawn_features_comes_near_that_of_their_gaussians() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, (20_000, 4)), rng.normal(2, 3, (20_000, 4))
    assert frechet_distance(a, b) == pytest.approx(4 * (4 + 4), rel=0.02)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a[:, :1], b[:, :1]) == pytest.approx(8, rel=0.03)
    with pytest.raises(ValueError, match="at least two"):
        frechet_distance(a[:1], b)


def test_clips_go_through_the_script_in_its_order(script: str) -> None:
    clips = np.zeros((5, 3, 4, 6, 3), np.uint8)  # [N, T, H, W, 3]
    clips[..., 0], clips[:, 1, ..., 2] = 200, 30
    clips[4] = 7
    features = VideoFeatures(script)(clips)
    assert features.shape == (5, 4) and features.dtype == np.float64
    assert features[0].tolist() == pytest.approx([200, 0, 10, 10], abs=1e-4)
    assert features[4].tolist() == pytest.approx([7, 7, 7, 0], abs=1e-4)


def test_a_script_that_nobody_vouched_for_is_not_run(script: str, tmp_path: Path) -> None:
    path, _, digest = script.partition("#sha256=")
    with pytest.raises(ValueError, match="runs code") as error:
        VideoFeatures(path)
    assert digest in str(error.value) and USUAL.sha256 in str(error.value)
    with pytest.raises(ValueError, match="got sha256"):
        VideoFeatures(f"{path}#sha256={USUAL.sha256}")
    (tmp_path / "text.pt").write_bytes(b"text")
    with pytest.raises(ValueError, match="no TorchScript"):
        VideoFeatures(f"{tmp_path / 'text.pt'}#sha256={hashlib.sha256(b'text').hexdigest()}")
    with pytest.raises(MissingWeights, match=r"evaluate\.fvd"):
        VideoFeatures(None)
