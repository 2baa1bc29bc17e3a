"""A small convolutional autoencoder that learns from scratch in a minute or two on a CPU.

All of it works at the latents' resolution: space-to-depth at the entrance and depth-to-space at the exit, residual
blocks between. Working at full resolution, as the usual autoencoders do, costs ten times as much for the same quality.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamengen.models import autoencoders

_IMAGES_AT_ONCE = 16  # whose patches are in memory as float64


@dataclass(frozen=True)
class Config:
    """`factor` pixels per latent along each side; `widths`: channels inside the encoder and the decoder; blocks of two
    convolutions each. The encoder reads every recorded frame once, the decoder writes every played one: the encoder may
    be the lighter.

    `margins`: rows at the top and at the bottom that are not coded but get the mean colour of the nearest coded row,
    for a game whose picture is letterboxed: what is blank need not be computed.
    """

    latent_channels: int = 4
    factor: int = 4
    widths: tuple[int, int] = (32, 64)
    blocks: tuple[int, int] = (1, 2)
    margins: tuple[int, int] = (0, 0)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # a block starts as the identity: no normalisation is needed

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class Autoencoder(autoencoders.Autoencoder):
    """Images [B, 3, H, W] in [-1, 1] <-> latents [B, C, H/factor, W/factor].

    A linear code of each patch plus what the convolutions add to it. `initialise` sets the linear part to the principal
    components of recorded patches and the convolutions begin at zero, so that training starts from the best linear code
    instead of from noise: on a CPU that is the difference between a minute and ten.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.factor, self.margins = config, config.factor, config.margins
        pixels, (thin, width) = 3 * config.factor**2, config.widths
        self.to_patches = nn.PixelUnshuffle(config.factor)
        self.to_pixels = nn.PixelShuffle(config.factor)
        self.linear_encoder = nn.Conv2d(pixels, config.latent_channels, 1)
        self.linear_decoder = nn.Conv2d(config.latent_channels, pixels, 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(pixels, thin, 3, padding=1),
            *(Block(thin) for _ in range(config.blocks[0])),
            nn.SiLU(),
            nn.Conv2d(thin, config.latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent_channels, width, 3, padding=1),
            *(Block(width) for _ in range(config.blocks[1])),
            nn.SiLU(),
            nn.Conv2d(width, pixels, 3, padding=1),
        )
        for last in (self.encoder[-1], self.decoder[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1))
        self.register_buffer("latent_bound", torch.full((config.latent_channels, 1, 1), 1e6))
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Set the linear code to the principal components of the patches of images [N, 3, H, W] (without margins)."""
        number, total, products = 0, 0.0, 0.0
        for part in images.split(_IMAGES_AT_ONCE):
            patches = self.to_patches(part).movedim(1, -1).flatten(0, -2).double()  # [positions, pixels of a patch]
            number += len(patches)
            total, products = total + patches.sum(0), products + patches.T @ patches
        mean = total / number
        variances, vectors = torch.linalg.eigh(products / number - mean.outer(mean))
        components = vectors.flip(1)[:, : self.config.latent_channels].float()  # [pixels, C], orthonormal
        scale = variances.flip(0)[: self.config.latent_channels].mean().sqrt().float()
        self.linear_encoder.weight.copy_((components.T / scale)[:, :, None, None])
        self.linear_encoder.bias.copy_(-(components.T @ mean.float()) / scale)
        self.linear_decoder.weight.copy_((components * scale)[:, :, None, None])
        self.linear_decoder.bias.copy_(mean)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return [C, rows, columns] for a frame size; raises ValueError if the size does not divide."""
        rows, factor = height - sum(self.config.margins), self.config.factor
        if rows <= 0 or rows % factor or width % factor:
            raise ValueError(
                f"{rows} rows (without the margins) and {width} columns cannot be coded with factor {factor}; "
                "both must divide by it."
            )
        return self.config.latent_channels, rows // factor, width // factor

    def encode_raw(self, images: Tensor) -> Tensor:
        """Latents as the training of the autoencoder sees them; images without margins."""
        patches = self.to_patches(images).to(self.linear_encoder.weight.dtype)
        return self.linear_encoder(patches) + self.encoder(patches)

    def decode_raw(self, latents: Tensor) -> Tensor:
        latents = latents.to(self.linear_decoder.weight.dtype)
        return self.to_pixels(self.linear_decoder(latents) + self.decoder(latents))

    def decoder_parts(self) -> list[nn.Module]:
        return [self.linear_decoder, self.decoder]

    def encode(self, images: Tensor) -> Tensor:
        top, bottom = self.config.margins
        images = images[:, :, top : images.shape[2] - bottom]
        return (self.encode_raw(images) - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor) -> Tensor:
        raw = (latents * self.latent_std + self.latent_mean).clamp(-self.latent_bound, self.latent_bound)
        return self._with_margins(self.decode_raw(raw))

    def _with_margins(self, images: Tensor) -> Tensor:
        """Add the rows that are not coded, each margin in the mean colour of the coded row beside it."""
        (top, bottom), width = self.config.margins, images.shape[3]
        above = images[:, :, :1].mean(3, keepdim=True).expand(-1, -1, top, width)
        below = images[:, :, -1:].mean(3, keepdim=True).expand(-1, -1, bottom, width)
        return torch.cat([above, images, below], dim=2)

    @torch.no_grad()
    def set_statistics(self, raw_latents: Tensor) -> None:
        """Store the scale of raw latents [N, C, h, w]: the mean per channel, one deviation for all, and the bounds.

        One deviation keeps the latents' geometry that of the pixels: an error costs what it costs in the picture.
        """
        self.latent_mean.copy_(raw_latents.mean((0, 2, 3))[:, None, None])
        self.latent_std.copy_((raw_latents - self.latent_mean).square().mean().sqrt().clamp_min(1e-3))
        self.latent_bound.copy_(raw_latents.abs().amax((0, 2, 3))[:, None, None] * 1.2)
