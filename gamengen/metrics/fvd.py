"""FVD: how far the distribution of generated clips lies from that of recorded ones, in the features of I3D."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch

from gamengen.metrics import weights

USUAL = weights.Usual(
    metric="FVD",
    setting="evaluate.fvd",
    url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",  # I3D of Kinetics-400, by StyleGAN-V
    sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
)
_BATCH = 4  # clips


class VideoFeatures:
    """The features of clips by which FVD compares them: I3D trained on Kinetics-400, as a TorchScript.

    A TorchScript is a program: loading one runs it. So only the usual file is taken, known by its checksum, or another
    one whose checksum you give yourself (`evaluate.fvd: /data/mine.pt#sha256=...`): do that for a file that you trust.

    Args:
        setting: `evaluate.fvd`, see `weights.read`. The script is called as `script(clips, rescale=True, resize=True,
            return_features=True)` with float clips [N, 3, T, H, W] in 0 ... 255 and returns [N, F].

    Raises:
        MissingWeights, ValueError: as `weights.read`; a file that is no TorchScript is a ValueError.
    """

    def __init__(self, setting: str | None, device: str = "cpu") -> None:
        data = weights.read(setting, USUAL, executable=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch would rather have us use another format
                self._script = torch.jit.load(io.BytesIO(data), map_location=device).eval()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{setting}, got no TorchScript ({reason}); expected the file of {USUAL.url}.") from None
        self._device = device

    @torch.inference_mode()
    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """Return the features of clips, uint8 [N, T, H, W, 3] -> float64 [N, F]."""
        values = []
        for first in range(0, len(clips), _BATCH):
            part = torch.from_numpy(np.ascontiguousarray(clips[first : first + _BATCH])).to(self._device)
            videos = part.movedim(-1, 1).float()  # [N, 3, T, H, W]
            features = self._script(videos, rescale=True, resize=True, return_features=True)
            values.append(features.double().cpu().numpy())
        return np.concatenate(values)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance of the Gaussians that fit features [N, F] and [M, F] (Unterthiner et al. 2018).

    It falls with the number of clips, so only figures of the same number compare; below some 400, the number of I3D's
    features, most of it is that.

    Raises:
        ValueError: fewer than two clips.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"features, got {len(a)} and {len(b)} clips; expected at least two of each.")
    means, covariances = [], []
    for features in (a, b):
        means.append(features.mean(axis=0))
        covariances.append(np.cov(features, rowvar=False, ddof=1).reshape(features.shape[1], -1))
    return gaussian_distance(means[0], covariances[0], means[1], covariances[1])


def gaussian_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Return |mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), means [F], covariances [F, F]."""
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # cov_a cov_b has the eigenvalues of the symmetric root cov_b root: no root of a matrix that is not
    shared = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    distance = np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * shared
    return float(max(distance, 0.0))
