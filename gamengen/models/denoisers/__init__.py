"""Denoisers: one file is one architecture: `Config` and `Denoiser(config, num_actions, latent_shape, context_length)`,
which is a `denoisers.Denoiser`."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from gamengen.models import architecture

Moments = tuple[Tensor, Tensor, Tensor]  # last latents [B, C, h, w], actions [B, L] and the next latents [B, C, h, w]


class Denoiser(nn.Module, ABC):
    """Predicts the velocity v of the next frame's noised latents from the frames and actions before.

    A network reads the past in `condition` and removes noise in `denoise`. Sampling calls the first once a frame and
    the second once a step: what a network can do in the first, several steps share.

    Arguments of `forward`, which is both for training:
        noisy: float [K * B, C, h, w], the noised latents of the next frames; K draws of noise for every past: all B of
            the first draw, then all of the second ...
        timestep: int [K * B] in 0 ... num_train_timesteps - 1.
        context: float [B, L, C, h, w], the last L frames' latents, oldest first.
        actions: int [B, L]; actions[:, i] was taken after frame i, the last one leads to the next frame.
        noise_level: int [B], the bucket of the noise added to the context (0: none).
    """

    def load_pretrained(self) -> None:
        """Take over the pretrained weights that the config names; by default none. Called once, before training.

        Raises:
            ValueError: weights that are not here, or of other sizes.
        """

    def calibrate(self, moments: Callable[[], Iterator[Moments]]) -> None:
        """Find what is measured and not trained, of recorded moments without end; by default nothing. Called once, on
        the device, before the first step of a training."""

    def fuse(self) -> None:
        """Rearrange the weights for speed where they change no more; by default not at all."""

    def condition(self, context: Tensor, actions: Tensor, noise_level: Tensor) -> tuple[Tensor, ...]:
        """Read the past; returns tensors of B examples for `denoise`. By default what came in."""
        return context, actions, noise_level

    @abstractmethod
    def denoise(self, noisy: Tensor, timestep: Tensor, *condition: Tensor) -> Tensor:
        """Return the velocity, of the shape of `noisy` [B, C, h, w]."""

    def forward(self, noisy: Tensor, timestep: Tensor, context: Tensor, actions: Tensor, noise_level: Tensor) -> Tensor:
        condition = self.condition(context, actions, noise_level)
        return self.denoise(noisy, timestep, *repeat(condition, len(noisy) // len(context)))


def repeat(condition: Sequence[Tensor], draws: int) -> tuple[Tensor, ...]:
    """Return what `Denoiser.condition` says of B pasts for `draws` noises of each, in the order of `forward`."""
    return tuple(part.repeat(draws, *[1] * (part.ndim - 1)) if draws > 1 else part for part in condition)


def build(
    name: str, options: Mapping[str, Any], *, num_actions: int, latent_shape: Sequence[int], context_length: int
) -> Denoiser:
    """Build an untrained denoiser; raises ValueError for an unknown name or setting."""
    module = architecture.find(sys.modules[__name__], name)
    config = architecture.configure(module, options)
    return module.Denoiser(config, num_actions, tuple(latent_shape), context_length)
