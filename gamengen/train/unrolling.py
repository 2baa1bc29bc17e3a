"""Pasts that are the network's own work, so that it learns to undo what it does itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gamengen.config import Config, WindowStage
from gamengen.models.diffusion import Schedule
from gamengen.train import workers

_AROUND = 5  # positions and side, over which it is judged how far off a frame is


@dataclass(frozen=True)
class Unrolling:
    """Replaces the last frames of some pasts by what the network makes of the frames before, one after the other.

    In play every past is the network's own work, and a fault that it does not undo goes on: a status bar gets a little
    paler with every frame. Noise on the context stands for faults of any kind; those that a network really makes are of
    a few kinds, and it learns to go back from them if it sees them. The gradient is that of the last frame alone (the
    pushforward trick; Brandstetter et al., "Message Passing Neural PDE Solvers").

    Attributes:
        begin: the first step with such pasts.
        timestep: at which a frame is made in a single step.
        every: the windows of a global batch whose past is replaced: each `every`-th.
        num_frames: the most frames that are made, the same number in all windows of a step, and so how much farther
            back than the network's context a window has to go; 0 where nothing is unrolled.
    """

    stage: str
    schedule: Schedule
    begin: int
    timestep: int
    batch_size: int
    context_length: int
    every: int
    num_frames: int
    seed: int

    @classmethod
    def of(cls, config: Config, stage: Literal["denoiser", "distill"], schedule: Schedule) -> Unrolling:
        """Return what a stage of a run unrolls.

        Raises:
            ValueError: settings that nothing can be made of, more `unrolled_steps` than there are, workers whose parts
                of a batch are not multiples of `unrolled_every`.
        """
        settings: WindowStage = getattr(config.train, stage)
        unrolled = settings.unrolled_steps
        if not 0 <= unrolled <= settings.steps:
            raise ValueError(
                f"train.{stage}.unrolled_steps, got {unrolled}; expected 0 ... steps, which are {settings.steps}."
            )
        if settings.unrolled_every < 1 or settings.unrolled_frames < 1:
            raise ValueError(
                f"unrolled_every and unrolled_frames of train.{stage}, got {settings.unrolled_every} and "
                f"{settings.unrolled_frames}; expected at least 1."
            )
        unrolling = cls(
            stage,
            schedule,
            settings.steps - unrolled,
            (config.fast_sampler if stage == "distill" else config.sampler).timesteps[0],
            settings.batch_size,
            config.denoiser.context_length,
            settings.unrolled_every,
            settings.unrolled_frames if unrolled else 0,
            config.seed,
        )
        if unrolled:
            parts = int(np.max(workers.count(config))) * settings.accumulation
            unrolling._check_part(settings.batch_size // parts)
        return unrolling

    def __call__(
        self,
        network: Callable[..., Tensor],
        context: Tensor,
        actions: Tensor,
        padded: Tensor,
        step: int,
        examples: slice,
    ) -> Tensor:
        """Return the pasts [B, L, C, h, w] of a part of the step's global batch.

        Args:
            network: a `Denoiser`, or what calls one like it; all workers call it equally often.
            context: float [B, num_frames + L, C, h, w], recorded latents; actions: int [B, num_frames + L].
            padded: int [B], how many of the oldest frames were not played; the first that was is never replaced.

        Raises:
            ValueError: the part is not a multiple of `every`.
        """
        past = context[:, self.num_frames :]
        if not self.num_frames or step < self.begin:
            return past
        self._check_part(len(context))
        chosen = slice(-examples.start % self.every, None, self.every)
        white = self._white(step, context)[:, examples][:, chosen]
        past = past.clone()
        past[chosen] = self._made(network, context[chosen], actions[chosen], padded[chosen], white)
        return past

    def _white(self, step: int, context: Tensor) -> Tensor:
        """Return white noise [K, batch_size, C, h, w] for the K frames that are made in a step."""
        rng = np.random.default_rng([self.seed, step])
        count = int(rng.integers(1, self.num_frames + 1))
        # a seed of its own: from `Draws`' seed the target's noise would be this noise, a few positions on
        generator = torch.Generator(context.device).manual_seed(int(rng.integers(2**63)))
        return torch.randn(count, self.batch_size, *context.shape[2:], generator=generator, device=context.device)

    def _made(
        self, network: Callable[..., Tensor], context: Tensor, actions: Tensor, padded: Tensor, white: Tensor
    ) -> Tensor:
        """Return pasts [B, L, C, h, w] whose last frames the network made, one from each of `white` [K, B, C, h, w]."""
        timestep = torch.full((len(context),), self.timestep, device=context.device)
        signal, sigma = self.schedule.scales(self.timestep)
        no_noise = torch.zeros_like(timestep)  # the bucket of the context
        begin = self.num_frames - len(white)
        past = context[:, begin : begin + self.context_length]
        for first, noise in enumerate(map(self.schedule.noise, white), start=begin):
            end = first + self.context_length
            velocity = network(noise, timestep, past, actions[:, first:end], no_noise).float()
            made = signal * noise - sigma * velocity
            was_played = (end > padded)[:, None, None, None]
            past = torch.cat([past[:, 1:], torch.where(was_played, made, context[:, end])[:, None]], dim=1)
        return past

    def _check_part(self, size: int) -> None:
        if size % self.every:
            raise ValueError(
                f"a worker's part of a batch, got {size} windows; expected a multiple of "
                f"train.{self.stage}.unrolled_every, {self.every}."
            )


def nearness(frame: Tensor, recorded: Tensor, tolerance: float) -> Tensor:
    """Return exp(-(d / tolerance)^2) [B, 1, h, w], d being how far a frame's latents [B, C, h, w] are off the recorded
    ones around a position.

    It is what a position's loss counts for where the next frame is the recorded one. Where a frame of the network's own
    shows another wall than the recorded one there is no way back, and a network that is made to look for one ceases to
    believe its past.
    """
    distance = (frame - recorded).square().mean(1, keepdim=True)
    around = F.avg_pool2d(distance, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False)
    return (-around / tolerance**2).exp()
