"""Autoencoders: one file is one architecture, with `Config` and `Autoencoder(config)`, an `autoencoders.Autoencoder`.

The functions here are the only place where uint8 frames become images and images become frames.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gamengen.models import architecture


class Autoencoder(nn.Module, ABC):
    """Maps images float [B, 3, H, W] in [-1, 1] to latents [B, C, rows, columns] of about unit variance and back.

    Attributes:
        factor: pixels per latent along each side.
        margins: rows at the top and at the bottom that are not coded.
    """

    factor: int
    margins: tuple[int, int]

    @property
    def is_pretrained(self) -> bool:
        """Whether its latents have a scale that a pretrained denoiser knows."""
        return False

    def load_pretrained(self) -> None:
        """Take over the pretrained weights that the config names; by default none. Called once, before training.

        Raises:
            ValueError: weights that are not here, or of other sizes.
        """

    def initialise(self, images: Tensor) -> None:
        """Make use of images [N, 3, H, W] (without margins) before training; by default none."""

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return [C, rows, columns] for a frame size; raises ValueError if the size does not divide."""

    @abstractmethod
    def encode_raw(self, images: Tensor) -> Tensor:
        """Latents as the training of the autoencoder sees them, of any scale; images without margins."""

    @abstractmethod
    def decode_raw(self, latents: Tensor) -> Tensor:
        """Images without margins of raw latents."""

    @abstractmethod
    def decoder_parts(self) -> list[nn.Module]:
        """Return all modules that `decode_raw` uses and `encode_raw` does not."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor: ...

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor: ...

    @abstractmethod
    def set_statistics(self, raw_latents: Tensor) -> None:
        """Store the scale of raw latents [N, C, h, w] after training."""


def build(name: str, options: Mapping[str, Any]) -> Autoencoder:
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
def reconstruct(autoencoder: Autoencoder, frames: Tensor) -> Tensor:
    """Encode and decode frames, uint8 [B, H, W, 3] -> uint8 [B, H, W, 3]: the ceiling of what a denoiser can reach."""
    return to_frames(autoencoder.decode(autoencoder.encode(to_images(frames))))
