"""Autoencoders: one file is one architecture, with `Config` and `Autoencoder(config)`.

An `Autoencoder` maps images float [B, 3, H, W] in [-1, 1] to latents [B, C, H/f, W/f] of about unit variance and back.
The functions here are the only place where uint8 frames become images and images become frames.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gamengen.models import architecture


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build an untrained autoencoder; raises ValueError for an unknown name or setting."""
    module = architecture.find(sys.modules[__name__], name)
    return module.Autoencoder(architecture.configure(module, options))


def to_images(frames: Tensor) -> Tensor:
    """uint8 [..., H, W, 3] -> float [..., 3, H, W] in [-1, 1]."""
    return frames.movedim(-1, -3).float().div_(127.5).sub_(1.0)


def to_frames(images: Tensor) -> Tensor:
    """float [..., 3, H, W] -> uint8 [..., H, W, 3], rounded and clamped."""
    frames = images.float().add(1.0).mul_(127.5).round_().clamp_(0, 255)
    return frames.to(torch.uint8).movedim(-3, -1).contiguous()


@torch.no_grad()
def reconstruct(autoencoder: nn.Module, frames: Tensor) -> Tensor:
    """Encode and decode frames, uint8 [B, H, W, 3] -> uint8 [B, H, W, 3]: the ceiling of what a denoiser can reach."""
    return to_frames(autoencoder.decode(autoencoder.encode(to_images(frames))))
