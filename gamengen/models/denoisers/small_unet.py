"""A small U-Net for CPUs: patchified latents, actions and noise as scale and shift, attention only where it is cheap.

Context latents stand on the channels as in GameNGen (section 3.2). Instead of one cross-attention token per action the
actions modulate every residual block (FiLM), which costs next to nothing; the controls are followed all the same
(`jump_followed`, `duck_followed` of an evaluation).

The U-Net itself, the trunk, sees the past alone; the noised latents join its features in a head of a few blocks. Four
sampling steps so cost one trunk and four heads, half of what a network that reads the past at every step needs, and a
window trains the head at several noise levels for one pass of the trunk.

With `camera_steps` the network sees the past from where the next frame is seen, moved as the actions move the view
(`gamengen.models.camera`). The next frame is a mixture, position by position: of the last one, so moved, and of what
the head draws, as far as it opens a gate. Behind a closed gate the moved frame is exact at every timestep; what the
head draws is always a little off. In training the gate is open for all but the first of a window's draws of noise, so
that the head learns every window on its own, too: one that learns what its gate lets through alone cannot mend what has
faded behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamengen.models import denoisers
from gamengen.models.camera import Camera
from gamengen.models.denoisers import Moments

_FREQUENCIES = 64  # of the timestep's sinusoids
_SURE = 0.1  # beyond 0 and 1 on both sides, so that a gate can be wholly closed and wholly open


@dataclass(frozen=True)
class Config:
    """`patch`: latents per position and side; `channels` and `blocks`: one entry per resolution, finest first;
    `head_channels` and `head_blocks`: of the residual blocks that see the noised latents; `camera_steps`: for a game
    that is seen through the eyes of somebody who turns and walks, of the calibration of a camera; 0 for none."""

    patch: int = 2
    channels: tuple[int, ...] = (64, 128, 192)
    blocks: tuple[int, ...] = (2, 2, 1)
    head_channels: int = 64
    head_blocks: int = 2
    embedding: int = 256
    heads: int = 4
    num_noise_buckets: int = 11
    camera_steps: int = 0


class GroupNorm(nn.GroupNorm):
    """In float32 on CPUs, whose kernel for bfloat16 in channels-last takes three times as long; CUDA's does not."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        y = F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps)
        return y.to(x.dtype)


class Block(nn.Module):
    """Residual block whose second half is scaled and shifted by the embedding; starts as the identity."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * outputs)
        self.norm2 = GroupNorm(8, outputs)
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
        self.norm = GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, rows, columns = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, rows * columns)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each [B, heads, positions, channels / heads]
        if x.device.type == "cpu":  # four times as fast as in bfloat16, which autocast would take
            with torch.autocast("cpu", enabled=False):
                y = F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(x.dtype)
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(-1, -2).reshape(batch, channels, rows, columns))


class Denoiser(denoisers.Denoiser):
    """See the package; the latents' sides must divide by patch * 2 ** (levels - 1)."""

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
        if config.camera_steps < 0:
            raise ValueError(f"camera_steps, got {config.camera_steps}; expected at least 0.")
        self._build_embeddings(num_actions, context_length)
        self._build_trunk(latent_shape[0] * config.patch**2 * context_length)
        self._build_head(latent_shape[0] * config.patch**2)
        if config.camera_steps:
            self.camera = Camera(num_actions * context_length, *latent_shape[1:])
        self.to(memory_format=torch.channels_last)

    def _build_embeddings(self, num_actions: int, context_length: int) -> None:
        wide = self.config.embedding
        self.noise = nn.Embedding(self.config.num_noise_buckets, wide)
        self.actions = nn.Linear(num_actions * context_length, wide, bias=False)  # one row per action and its age
        self.past = nn.Sequential(nn.SiLU(), nn.Linear(wide, wide), nn.SiLU())
        self.time = nn.Sequential(nn.Linear(2 * _FREQUENCIES, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.step = nn.Sequential(nn.SiLU(), nn.Linear(wide, wide), nn.SiLU())

    def _build_trunk(self, inputs: int) -> None:
        config, wide, channels = self.config, self.config.embedding, self.config.channels
        self.context_in = nn.Conv2d(inputs, channels[0], 3, padding=1)
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

    def _build_head(self, latents: int) -> None:
        config, width = self.config, self.config.head_channels
        inputs, outputs = latents + config.channels[0], latents
        if config.camera_steps:
            inputs += latents + config.patch**2  # the moved frame, and where it moved
            outputs += config.patch**2  # a gate for every latent position
            self.signal_to_noise = nn.Linear(config.embedding, 1)
            nn.init.zeros_(self.signal_to_noise.weight)
            nn.init.zeros_(self.signal_to_noise.bias)  # as where all is noise
        self.noisy_in = nn.Conv2d(inputs, width, 3, padding=1)
        self.head = nn.ModuleList(Block(width, width, self.config.embedding) for _ in range(self.config.head_blocks))
        self.norm_out = GroupNorm(8, width)
        self.conv_out = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)
        nn.init.constant_(self.conv_out.bias[latents:], -1.0)  # gates: at first most is the moved frame

    def condition(self, context: Tensor, actions: Tensor, noise_level: Tensor) -> tuple[Tensor, ...]:
        """Return the trunk's features [B, channels[0], h / patch, w / patch], the embedding of the actions and, with a
        camera, the last latents moved [B, C, h, w] and where they were, [B, 1, h, w]."""
        played = self._one_hot(actions)
        embedding = self.noise(noise_level) + self.actions(played)
        modulation = self.past(embedding)
        frames, last = context.flatten(1, 2), ()
        if self.config.camera_steps:
            frames, moves = self.camera(frames, played)
            last = frames[:, -context.shape[2] :], moves
        x = self.context_in(self._patches(frames))
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            for block in blocks:
                x = block(x, modulation)
            if level < len(self.downsample):
                skips.append(x)
                x = self.downsample[level](x)
        x = self.last(self.middle(x), modulation)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.upsample[level](x), scale_factor=2.0, mode="nearest")
            x = torch.cat([x, skips[level]], dim=1)
            for block in self.up[level]:
                x = block(x, modulation)
        return x, embedding, *last

    def forward(self, noisy: Tensor, timestep: Tensor, context: Tensor, actions: Tensor, noise_level: Tensor) -> Tensor:
        condition = self.condition(context, actions, noise_level)
        condition = denoisers.repeat(condition, len(noisy) // len(context))
        return self._velocity(noisy, timestep, condition, len(context) if self.training else len(noisy))

    def denoise(self, noisy: Tensor, timestep: Tensor, *condition: Tensor) -> Tensor:
        return self._velocity(noisy, timestep, condition, len(noisy))

    def _velocity(self, noisy: Tensor, timestep: Tensor, condition: tuple[Tensor, ...], num_mixed: int) -> Tensor:
        """Return the velocity; with a camera, from the `num_mixed`-th example on behind an open gate."""
        features, embedding, *moved = condition
        time = self._time(timestep)
        modulation = self.step(embedding + time)
        x = self.noisy_in(torch.cat([self._patches(noisy), features, *map(self._patches, moved)], dim=1))
        for block in self.head:
            x = block(x, modulation)
        x = self.conv_out(F.silu(self.norm_out(x)))
        x = F.pixel_shuffle(x, self.config.patch)
        if not moved:
            return x
        own, gate = x[:, :-1].to(moved[0].dtype), x[:, -1:].to(moved[0].dtype).sigmoid()
        gate = ((1 + 2 * _SURE) * gate - _SURE).clamp(0, 1)
        gate = torch.cat([gate[:num_mixed], torch.ones_like(gate[num_mixed:])])
        return self._towards(moved[0].lerp(own, gate), noisy, time)

    def _towards(self, clean: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Return the velocity that takes noised latents to clean ones. With r = signal / sigma, learned for every
        timestep, and signal^2 + sigma^2 = 1, it is r * noisy - sqrt(1 + r^2) * clean: nothing but r can be off."""
        ratio = self.signal_to_noise(F.silu(time)).float()[:, :, None, None]
        return ratio * noisy - (1 + ratio.square()).sqrt() * clean

    def calibrate(self, moments: Callable[[], Iterator[Moments]]) -> None:
        if self.config.camera_steps:
            played = ((last, self._one_hot(actions), target) for last, actions, target in moments())
            self.camera.calibrate(played, self.config.camera_steps)

    def _one_hot(self, actions: Tensor) -> Tensor:
        return F.one_hot(actions.long(), self.num_actions).flatten(1).to(self.actions.weight.dtype)

    def _patches(self, latents: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(latents, self.config.patch)
        return patches.to(self.noisy_in.weight.dtype, memory_format=torch.channels_last)

    def _time(self, timestep: Tensor) -> Tensor:
        steps = torch.arange(_FREQUENCIES, device=timestep.device) / _FREQUENCIES
        angles = timestep[:, None].float() * torch.exp(-math.log(10_000) * steps)
        return self.time(torch.cat([angles.sin(), angles.cos()], dim=1).to(self.noisy_in.weight.dtype))
