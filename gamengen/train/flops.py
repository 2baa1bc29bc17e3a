"""Floating-point operations: what a network's step takes and what a device can do at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# Dense FLOP per second in bfloat16, in TF32; of the data sheets. The first name that a device's name holds counts.
PEAKS: dict[str, tuple[float, float]] = {
    "B200": (2250e12, 1100e12),
    "H200": (989e12, 494e12),
    "H100 PCIe": (756e12, 378e12),
    "H100": (989e12, 494e12),
    "A100": (312e12, 156e12),
    "L40S": (362e12, 183e12),
    "L40": (181e12, 90e12),
    "L4": (121e12, 60e12),
    "RTX 4090": (165e12, 82e12),
    "RTX 3090": (71e12, 36e12),
    "RTX A4000": (77e12, 38e12),
    "T4": (65e12, 8e12),
}
_SIDE, _ROUNDS = {"cuda": 8192, "cpu": 1024}, 5  # of the product that is timed on other devices


class _Counted(nn.Module):
    """Counts the operations of a network's calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.flops = 0

    def forward(self, *inputs: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            result = self.network(*inputs)
        self.flops += counter.get_total_flops()
        return result


@torch.no_grad()
def of_step(loss: Callable[..., Tensor], network: nn.Module, *inputs: Any) -> float:
    """Return the FLOP of a loss and of its gradient: what the network computes counts three times, the rest once."""
    counted = _Counted(network)
    with FlopCounterMode(display=False) as counter:
        loss(counted, *inputs)
    return counter.get_total_flops() + 2 * counted.flops


def peak(device: torch.device, precision: torch.dtype | None) -> float:
    """Return the FLOP per second of a device at most: of a known GPU by its data sheet, else of a matrix product."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, (bfloat16, tf32) in PEAKS.items():
            if known in name:
                return bfloat16 if precision is not None else tf32
    return _measured(device, precision or torch.float32)


def _measured(device: torch.device, dtype: torch.dtype) -> float:
    side = _SIDE.get(device.type, 1024)
    one = torch.randn(side, side, device=device).to(dtype)
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        (one @ one)[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - begun)
    return 2 * side**3 / min(times)
