"""Pasts that are the network's own work, so that it learns to undo what it does itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamengen.config import Config
from gamengen.models.diffusion import Schedule
from gamengen.train import workers

_AROUND = 5  # positions and side, over which it is judged how far off a frame is


@dataclass(frozen=True)
class Unrolling:
    """Replaces the last frames of some pasts by what the network makes of the frames before, one after the other.

    In play every past is the network's own work, and a fault that it does not undo goes on: a status bar gets a little
    paler with every frame. Noise on the context stands for faults of any kind; those that a network really makes are of
    a few kinds, and it learns to go back from them to the recorded frame if it sees them. The gradient is that of the
    last frame alone (the pushforward trick; Brandstetter et al., "Message Passing Neural PDE Solvers").

    Where a frame of its own shows another wall than the recorded one there is no way back, and a network that is made
    to look for one ceases to believe its past. A position's loss has the weight exp(-(d / tolerance)^2), d being how
    far the last frame is off the recorded one around it.

    Attributes:
        timestep: at which a frame is made in a single step.
        every: the windows of a global batch whose past is replaced: each `every`-th.
        num_frames: the most frames that are made; their number is the same in all windows of a step.
    """

    schedule: Schedule
    timestep: int
    batch_size: int
    context_length: int
    every: int
    num_frames: int
    tolerance: float
    seed: int

    @classmethod
    def of(cls, config: Config, schedule: Schedule) -> Unrolling:
        """Return what the stage `denoiser` of a run unrolls.

        Raises:
            ValueError: settings that nothing can be made of, more `unrolled_steps` than there are, workers whose parts
                of a batch are not multiples of `unrolled_every`.
        """
        settings = config.train.denoiser
        if not 0 <= settings.unrolled_steps <= settings.steps:
            raise ValueError(
                f"train.denoiser.unrolled_steps, got {settings.unrolled_steps}; expected 0 ... steps, {settings.steps}."
            )
        unrolling = cls(
            schedule,
            config.sampler.timesteps[0],
            settings.batch_size,
            config.denoiser.context_length,
            settings.unrolled_every,
            settings.unrolled_frames,
            settings.unrolled_tolerance,
            config.seed,
        )
        if settings.unrolled_steps:
            parts = int(np.max(workers.count(config))) * settings.accumulation
            _check_part(settings.batch_size // parts, settings.unrolled_every)
        return unrolling

    def __post_init__(self) -> None:
        if self.every < 1 or self.num_frames < 1 or not self.tolerance > 0:
            raise ValueError(
                f"unrolled_every, unrolled_frames and unrolled_tolerance of train.denoiser, got {self.every}, "
                f"{self.num_frames} and {self.tolerance}; expected at least 1, at least 1 and more than 0."
            )

    def __call__(
        self, network: nn.Module, context: Tensor, actions: Tensor, padded: Tensor, step: int, examples: slice
    ) -> tuple[Tensor, Tensor]:
        """Return pasts [B, L, C, h, w] and the weights [B, 1, h, w] of a part of the step's global batch.

        Args:
            network: a `Denoiser`, or what makes one data-parallel; all workers call it equally often.
            context: float [B, num_frames + L, C, h, w], recorded latents; actions: int [B, num_frames + L].
            padded: int [B], how many of the oldest frames were not played; the first that was is never replaced.

        Raises:
            ValueError: the part is not a multiple of `every`.
        """
        _check_part(len(context), self.every)
        chosen = slice(-examples.start % self.every, None, self.every)
        white = self._white(step, context)[:, examples][:, chosen]
        made = self._made(network, context[chosen], actions[chosen], padded[chosen], white)
        distance = (made[:, -1] - context[chosen, -1]).square().mean(1, keepdim=True)
        around = F.avg_pool2d(distance, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False)
        past = context[:, self.num_frames :].clone()
        weight = torch.ones_like(past[:, 0, :1])
        past[chosen], weight[chosen] = made, (-around / self.tolerance**2).exp()
        return past, weight

    def _white(self, step: int, context: Tensor) -> Tensor:
        """Return white noise [K, batch_size, C, h, w] for the K frames that are made in a step."""
        rng = np.random.default_rng([self.seed, step])
        count = int(rng.integers(1, self.num_frames + 1))
        # a seed of its own: from `Draws`' seed the target's noise would be this noise, a few positions on
        generator = torch.Generator(context.device).manual_seed(int(rng.integers(2**63)))
        return torch.randn(count, self.batch_size, *context.shape[2:], generator=generator, device=context.device)

    def _made(self, network: nn.Module, context: Tensor, actions: Tensor, padded: Tensor, white: Tensor) -> Tensor:
        """Return pasts [B, L, C, h, w] whose last frames the network made, one from each of `white` [K, B, C, h, w]."""
        timestep = torch.full((len(context),), self.timestep, device=context.device)
        no_noise = torch.zeros_like(timestep)  # the bucket of the context
        begin = self.num_frames - len(white)
        past = context[:, begin : begin + self.context_length]
        for first, noise in enumerate(map(self.schedule.noise, white), start=begin):
            end = first + self.context_length
            velocity = network(noise, timestep, past, actions[:, first:end], no_noise).float()
            made = self.schedule.clean(noise, velocity, timestep)
            was_played = (end > padded)[:, None, None, None]
            past = torch.cat([past[:, 1:], torch.where(was_played, made, context[:, end])[:, None]], dim=1)
        return past


def _check_part(size: int, every: int) -> None:
    if size % every:
        raise ValueError(
            f"a worker's part of a batch, got {size} windows; expected a multiple of train.denoiser.unrolled_every, "
            f"{every}."
        )
