"""LPIPS: how different two pictures look, by the package `lpips` and the weights of its backbone, AlexNet."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from torch import Tensor

from gamengen.metrics import check_frames, weights
from gamengen.models import autoencoders

USUAL = weights.Usual(
    metric="LPIPS",
    setting="evaluate.lpips",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",  # torchvision's AlexNet, ImageNet
    sha256="7be5be79",
)
_BATCH = 16  # frames


class Lpips:
    """LPIPS 0.1 with AlexNet, the package's own choice for comparisons (Zhang et al. 2018); 0 for equal pictures.

    Args:
        setting: `evaluate.lpips`, see `weights.read`; the backbone's state dict as torchvision publishes it. Nothing
            in it is executed.

    Raises:
        MissingWeights, ValueError: as `weights.read`; a file that does not hold an AlexNet is a ValueError.
    """

    def __init__(self, setting: str | None, device: str = "cpu") -> None:
        data = weights.read(setting, USUAL)
        import lpips  # with torchvision, two seconds that nobody else waits for

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package calls torchvision in a way that has become old
            network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        try:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            # the package cuts torchvision's `features` into slices and keeps their numbers: slice2.3.weight
            names = network.net.state_dict()
            network.net.load_state_dict({name: state[f"features.{name.partition('.')[2]}"] for name in names})
        except Exception as error:  # whatever is in the file
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{setting}, got no AlexNet ({reason}); expected the file of {USUAL.url}.") from None
        self._network, self._device = network.to(device).eval(), device

    @torch.inference_mode()
    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return LPIPS of each pair of frames, uint8 [N, H, W, 3] twice -> float64 [N]."""
        check_frames(a, b)
        values = [np.zeros(0)]
        for first in range(0, len(a), _BATCH):
            pair = (self._images(frames[first : first + _BATCH]) for frames in (a, b))
            values.append(self._network(*pair).flatten().double().cpu().numpy())
        return np.concatenate(values)

    def _images(self, frames: np.ndarray) -> Tensor:
        return autoencoders.to_images(torch.from_numpy(np.ascontiguousarray(frames)).to(self._device))
