"""Pasts that are the network's own work, so that it learns to undo what it does itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gamengen.config import Config, WindowStage
from gamengen.data.stream import ChainSource, Stream
from gamengen.data.window import Window
from gamengen.models.denoisers import Denoiser
from gamengen.models.sampler import Sampler
from gamengen.train import workers

_AROUND = 5  # positions and side, over which it is judged how far off a frame is


class _Step(NamedTuple):
    """What the network last saw of some chains: pasts [B, L, C, h, w] and actions [B, L]."""

    number: int
    past: Tensor
    actions: Tensor


@dataclass
class Unrolling:
    """Puts chains in the place of some windows of every batch: pasts that follow a recorded episode frame by frame,
    each a frame longer than in the step before, by one that the network made.

    In play every past is the network's own work, and a fault that it does not undo goes on: a status bar gets a little
    paler with every frame. Noise on the context stands for faults of any kind; those that a network really makes are of
    a few kinds, and it learns to go back from them if it sees them. A chain shows it what comes of them after any
    number of frames, for the price of making one. Frames are made as in play, by the same sampler: another one's
    faults are others. The gradient is that of the next frame alone (the pushforward trick; Brandstetter et al.,
    "Message Passing Neural PDE Solvers").

    A chain begins with a recorded past and ends with its episode, after `num_frames` made, and wherever a checkpoint is
    written, which so need not hold it.

    Attributes:
        sampler: makes the frames.
        begin: the first step with chains.
        every: the windows of a global batch that are chains: each `every`-th.
        num_frames: that are made in a chain, at most; 0 where nothing is unrolled.
    """

    stage: str
    sampler: Sampler
    begin: int
    batch_size: int
    context_length: int
    every: int
    num_frames: int
    checkpoint_every: int
    seed: int
    _last: dict[int, _Step] = field(default_factory=dict, init=False, repr=False)  # by where a part of a batch begins

    @classmethod
    def of(cls, config: Config, stage: Literal["denoiser", "distill"], sampler: Sampler) -> Unrolling:
        """Return what a stage of a run unrolls, with the sampler by which its network is played.

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
            sampler,
            settings.steps - unrolled,
            settings.batch_size,
            config.denoiser.context_length,
            settings.unrolled_every,
            settings.unrolled_frames if unrolled else 0,
            settings.checkpoint_every,
            config.seed,
        )
        if unrolled:
            parts = int(np.max(workers.count(config))) * settings.accumulation
            unrolling._check_part(settings.batch_size // parts)
        return unrolling

    def batches(self, stream: Stream[Window], step: int, rank: int, world: int) -> Iterator[list[Window]]:
        """Yield a worker's batches of a stream from a global step on, some windows replaced by those of chains."""
        ordinary = stream.batches(step, rank, world)
        if not self.num_frames:
            yield from ordinary  # without end
        yield from itertools.islice(ordinary, max(0, self.begin - step))
        source = ChainSource(self.context_length, 1 + self.num_frames)  # the first past is recorded
        count = self.batch_size // self.every
        chains = Stream(stream.shards, source, stream.seed, count, count, pool_shards=1)  # each chain has its lane
        following = chains.batches(max(0, step - self.begin), rank, world)
        for examples, windows in zip(ordinary, following, strict=True):
            examples[:: self.every] = windows
            yield examples

    def __call__(
        self, network: Denoiser, context: Tensor, actions: Tensor, follows: Tensor, step: int, examples: slice
    ) -> Tensor:
        """Return the pasts [B, L, C, h, w] of a part of the step's global batch.

        Args:
            context: float [B, L, C, h, w], recorded latents; actions: int [B, L].
            follows: bool [B], see `Window`.

        Raises:
            ValueError: the part is not a multiple of `every`.
        """
        if not self.num_frames or step < self.begin:
            return context
        self._check_part(len(context))
        own = slice(None, None, self.every)
        past, last = context[own], self._last.get(examples.start)
        if last is not None and last.number == step - 1 and step % self.checkpoint_every:
            made = self._made(network, last, examples)
            longer = torch.cat([last.past[:, 1:], made[:, None]], dim=1)
            past = torch.where(follows[own][:, None, None, None, None], longer, past)
        self._last[examples.start] = _Step(step, past, actions[own])
        context = context.clone()
        context[own] = past
        return context

    def _made(self, network: Denoiser, last: _Step, examples: slice) -> Tensor:
        """Return the frames [B, C, h, w] that the network makes of what it saw in the step before."""
        # a seed of its own: from `Draws`' seed the target's noise would be this noise, a few positions on
        seed = int(np.random.default_rng([self.seed, last.number]).integers(2**63))
        generator = torch.Generator(last.past.device).manual_seed(seed)
        noise = torch.randn(self.batch_size, *last.past.shape[2:], generator=generator, device=last.past.device)
        return self.sampler(network, last.past, last.actions, noise[examples][:: self.every])

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
