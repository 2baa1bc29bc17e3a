"""Which floating-point type a device computes fastest in."""

from __future__ import annotations

import torch


def fastest(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the hardware computes in it (GPUs since Ampere, CPUs with avx512_bf16), else float32."""
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bfloat16 = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32
