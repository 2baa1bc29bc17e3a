"""A small U-Net for CPUs: patchified latents, actions and noise as scale and shift, attention only where it is cheap.

Context latents stand on the channels as in GameNGen (section 3.2). Instead of one cross-attention token per action the
actions modulate every residual block (FiLM): on small grids that is as good and costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """`patch`: latents per position and side; `channels` and `blocks`: one entry per resolution, finest first."""

    patch: int = 2
    channels: tuple[int, ...] = (64, 128, 192)
    blocks: tuple[int, ...] = (2, 2, 1)
    embedding: int = 256
    heads: int = 4
    num_noise_buckets: int = 11


class Block(nn.Module):
    """Residual block whose second half is scaled and shifted by the embedding; starts as the identity."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * outputs)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y) * (1 + scale) + shift))
        return self.skip(x) + y


class Attention(nn.Module):
    """Self-attention over all positions, so that one part of the picture (a crash) reaches every other."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, rows, columns = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, rows * columns)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each [B, heads, positions, channels / heads]
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(-1, -2).reshape(batch, channels, rows, columns))


class Denoiser(nn.Module):
    """See the package for `forward`; the latents' sides must divide by patch * 2 ** (levels - 1)."""

    def __init__(self, config: Config, num_actions: int, latent_shape: tuple[int, ...], context_length: int) -> None:
        super().__init__()
        self.config = config
        self.num_actions = num_actions
        stride = config.patch * 2 ** (len(config.channels) - 1)
        if latent_shape[1] % stride or latent_shape[2] % stride:
            raise ValueError(f"latents of {latent_shape[1:]} do not divide by {stride} (patch * 2 ** (levels - 1)).")
        if len(config.blocks) != len(config.channels):
            raise ValueError(
                f"blocks has {len(config.blocks)} entries; expected one per level, {len(config.channels)}."
            )
        inputs = latent_shape[0] * config.patch**2
        wide = config.embedding
        self.time = nn.Sequential(nn.Linear(128, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.noise = nn.Embedding(config.num_noise_buckets, wide)
        self.actions = nn.Linear(num_actions * context_length, wide, bias=False)  # one row per action and its age
        self.embed = nn.Sequential(nn.SiLU(), nn.Linear(wide, wide), nn.SiLU())
        self.conv_in = nn.Conv2d(inputs * (1 + context_length), config.channels[0], 3, padding=1)
        self._build_levels(config)
        self.norm_out = nn.GroupNorm(8, config.channels[0])
        self.conv_out = nn.Conv2d(config.channels[0], inputs, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)
        self.to(memory_format=torch.channels_last)

    def _build_levels(self, config: Config) -> None:
        wide, channels = config.embedding, config.channels
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.downsample, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, (width, count) in enumerate(zip(channels, config.blocks, strict=True)):
            self.down.append(nn.ModuleList(Block(width, width, wide) for _ in range(count)))
            if level + 1 < len(channels):
                below = channels[level + 1]
                self.downsample.append(nn.Conv2d(width, below, 3, stride=2, padding=1))
                self.upsample.append(nn.Conv2d(below, width, 1))
                self.up.append(nn.ModuleList(Block(2 * width if i == 0 else width, width, wide) for i in range(count)))
        self.middle = Attention(channels[-1], config.heads)
        self.last = Block(channels[-1], channels[-1], wide)

    def forward(self, noisy: Tensor, timestep: Tensor, context: Tensor, actions: Tensor, noise_level: Tensor) -> Tensor:
        embedding = self._embedding(timestep, actions, noise_level)
        x = torch.cat([noisy, context.flatten(1, 2)], dim=1)
        x = F.pixel_unshuffle(x, self.config.patch).contiguous(memory_format=torch.channels_last)
        x = self.conv_in(x)
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            for block in blocks:
                x = block(x, embedding)
            if level < len(self.downsample):
                skips.append(x)
                x = self.downsample[level](x)
        x = self.last(self.middle(x), embedding)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.upsample[level](x), scale_factor=2.0, mode="nearest")
            x = torch.cat([x, skips[level]], dim=1)
            for block in self.up[level]:
                x = block(x, embedding)
        x = self.conv_out(F.silu(self.norm_out(x)))
        return F.pixel_shuffle(x, self.config.patch)

    def _embedding(self, timestep: Tensor, actions: Tensor, noise_level: Tensor) -> Tensor:
        frequencies = torch.exp(-math.log(10_000) * torch.arange(64, device=timestep.device) / 64)
        angles = timestep[:, None].float() * frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1).to(self.conv_in.weight.dtype))
        played = F.one_hot(actions.long(), self.num_actions).flatten(1).to(time.dtype)
        return self.embed(time + self.noise(noise_level) + self.actions(played))
