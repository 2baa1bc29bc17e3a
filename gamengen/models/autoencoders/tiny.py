"""A small convolutional autoencoder that learns from scratch in a minute or two on a CPU.

All of it works at the latents' resolution: space-to-depth at the entrance and depth-to-space at the exit, residual
blocks between. Working at full resolution, as the usual autoencoders do, costs ten times as much for the same quality.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """`factor` pixels per latent along each side; `width` channels inside; blocks of two convolutions each."""

    latent_channels: int = 4
    factor: int = 4
    width: int = 64
    encoder_blocks: int = 2
    decoder_blocks: int = 2


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # a block starts as the identity: no normalisation is needed

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class Autoencoder(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] <-> latents [B, C, H/factor, W/factor].

    Raw latents are bounded by tanh, which keeps a rollout from running away; outside they are standardised per channel
    with the statistics that `set_statistics` stores, so that the noise schedule fits them.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        pixels = 3 * config.factor**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(config.factor),
            nn.Conv2d(pixels, config.width, 3, padding=1),
            *(Block(config.width) for _ in range(config.encoder_blocks)),
            nn.SiLU(),
            nn.Conv2d(config.width, config.latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent_channels, config.width, 3, padding=1),
            *(Block(config.width) for _ in range(config.decoder_blocks)),
            nn.SiLU(),
            nn.Conv2d(config.width, pixels, 3, padding=1),
            nn.PixelShuffle(config.factor),
        )
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(config.latent_channels, 1, 1))
        self.to(memory_format=torch.channels_last)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return [C, rows, columns] for a frame size; raises ValueError if the size does not divide."""
        if height % self.config.factor or width % self.config.factor:
            raise ValueError(f"frames of {width}x{height} do not divide by the autoencoder's factor {self.config.factor}.")
        return self.config.latent_channels, height // self.config.factor, width // self.config.factor

    def encode_raw(self, images: Tensor) -> Tensor:
        """Latents in (-1, 1), as the training of the autoencoder sees them."""
        return torch.tanh(self.encoder(images))

    def decode_raw(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)

    def encode(self, images: Tensor) -> Tensor:
        return (self.encode_raw(images) - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_raw((latents * self.latent_std + self.latent_mean).clamp(-1, 1))

    @torch.no_grad()
    def set_statistics(self, raw_latents: Tensor) -> None:
        """Store mean and deviation per channel of raw latents [N, C, h, w]."""
        self.latent_mean.copy_(raw_latents.mean((0, 2, 3))[:, None, None])
        self.latent_std.copy_(raw_latents.std((0, 2, 3)).clamp_min(1e-3)[:, None, None])
