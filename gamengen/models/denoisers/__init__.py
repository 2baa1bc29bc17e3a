"""Denoisers: one file is one architecture: `Config` and `Denoiser(config, num_actions, latent_shape, context_length)`.

`forward(noisy, timestep, context, actions, noise_level)` returns the velocity v of the shape of `noisy`:

* noisy: float [B, C, h, w], the noised latents of the next frame
* timestep: int [B] in 0 ... num_train_timesteps - 1
* context: float [B, L, C, h, w], the last L frames' latents, oldest first
* actions: int [B, L]; actions[:, i] was taken after frame i, the last one leads to the next frame
* noise_level: int [B], the bucket of the noise added to the context (0: none)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from gamengen.models import architecture


def build(
    name: str, options: Mapping[str, Any], *, num_actions: int, latent_shape: Sequence[int], context_length: int
) -> nn.Module:
    """Build an untrained denoiser; raises ValueError for an unknown name or setting."""
    module = architecture.find(sys.modules[__name__], name)
    config = architecture.configure(module, options)
    return module.Denoiser(config, num_actions, tuple(latent_shape), context_length)
