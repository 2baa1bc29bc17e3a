"""Stage `denoiser`: learns the next frame's latents from past ones and actions (GameNGen, section 3)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gamengen.checkpoint import build_sampler
from gamengen.config import Config, WindowStage
from gamengen.data.stream import Stream, WindowSource
from gamengen.data.window import Window, WindowRules
from gamengen.game import GameSpec
from gamengen.models import autoencoders, denoisers, diffusion
from gamengen.models.denoisers import Moments
from gamengen.models.diffusion import Draws
from gamengen.train.loop import Batch, Objective
from gamengen.train.unrolling import Unrolling, nearness


def scheduler_settings(config: Config, *, fast: bool = False) -> dict[str, Any]:
    """Return what a model folder keeps of noise schedule, augmentation and sampler."""
    noise = config.diffusion
    sampler = config.fast_sampler if fast else config.sampler
    return {
        "schedule": {
            "num_train_timesteps": noise.num_train_timesteps,
            "beta_start": noise.beta_start,
            "beta_end": noise.beta_end,
            "beta_schedule": noise.beta_schedule,
            "zero_terminal_snr": noise.zero_terminal_snr,
            "noise_offset": noise.noise_offset,
        },
        "augmentation": {
            "max_level": noise.max_noise_level,
            "num_buckets": noise.num_noise_buckets,
            "clean_fraction": noise.clean_context_fraction,
            "dropout": noise.context_dropout,
            "blend_fraction": noise.blended_context_fraction,
            "max_blend": noise.max_context_blend,
        },
        "sampler": {
            "timesteps": list(sampler.timesteps),
            "guidance_scale": sampler.guidance_scale,
            "noise_level": sampler.noise_level,
            "noise_scales": list(sampler.noise_scales),
        },
    }


def build(config: Config, game: GameSpec, latent_shape: Sequence[int]) -> denoisers.Denoiser:
    """Build the run's untrained denoiser."""
    return denoisers.build(
        config.denoiser.name,
        config.denoiser.options,
        num_actions=game.num_actions,
        latent_shape=latent_shape,
        context_length=config.denoiser.context_length,
    )


def windows(config: Config, settings: WindowStage, game: GameSpec, shard_list: Sequence[str]) -> Stream[Window]:
    """Return the stream of windows of latents."""
    rules = WindowRules(config.denoiser.context_length, settings.restart_joins, settings.event_fraction)
    source = WindowSource(rules, game)
    return Stream(shard_list, source, config.seed, config.train.num_lanes, settings.batch_size)


def batches(stream: Stream[Window], unrolling: Unrolling, step: int, rank: int, world: int) -> Iterator[Batch]:
    """Yield contexts [B, L, C, h, w], actions [B, L], targets [B, C, h, w] and which windows follow those at the same
    place of the batch before [B]; latents as they are stored, float16."""
    for examples in unrolling.batches(stream, step, rank, world):
        yield (
            torch.from_numpy(np.stack([window.context for window in examples])),
            torch.from_numpy(np.stack([window.actions for window in examples])),
            torch.from_numpy(np.stack([window.target for window in examples])),
            torch.tensor([window.follows for window in examples]),
        )


def objective(config: Config, game: GameSpec, shard_list: Sequence[str]) -> Objective:
    """Build the stage."""
    settings, noise = config.train.denoiser, config.diffusion
    latents = latent_shape(config, game)
    sampler = build_sampler(scheduler_settings(config))
    unrolling = Unrolling.of(config, "denoiser", sampler)
    if not settings.unrolled_tolerance > 0:
        raise ValueError(f"train.denoiser.unrolled_tolerance, got {settings.unrolled_tolerance}; expected more than 0.")
    stream = windows(config, settings, game, shard_list)
    shape = (settings.batch_size, config.denoiser.context_length, *latents)
    schedule_on = functools.cache(sampler.schedule.to)
    network = build(config, game, latents)
    network.load_pretrained()

    @functools.lru_cache(maxsize=1)  # for all parts of a step
    def draws_of(step: int, device: torch.device) -> Draws:
        visited, seed = sampler.timesteps, config.seed * 1_000_003 + step
        number = settings.draws_per_window
        return Draws.sample(shape, noise.num_train_timesteps, visited, noise.start_fraction, seed, number, device)

    def prepare(batch: Batch, step: int, examples: slice) -> Batch:
        context, actions, target, follows = batch
        context, target = context.float(), target.float()
        past = unrolling(network, context, actions, follows, step, examples)
        weight = nearness(past[:, -1], context[:, -1], settings.unrolled_tolerance)
        return past, actions, target, weight

    def loss(network: nn.Module, batch: Batch, step: int, examples: slice) -> Tensor:
        context, actions, target, weight = batch
        draws = draws_of(step, target.device).part(examples)
        inputs = context, actions, target, draws, weight
        return diffusion.loss(network, schedule_on(target.device), sampler.augmentation, *inputs).mean()

    def begin(device: torch.device) -> None:
        network.calibrate(lambda: moments(stream, device))

    return Objective(network, functools.partial(batches, stream, unrolling), loss, prepare, begin)


def moments(stream: Stream[Window], device: torch.device) -> Iterator[Moments]:
    """Yield what a denoiser is calibrated on: the windows of the first steps, on a device."""
    for examples in stream.batches(0, 0, 1):
        last, actions, target = (
            torch.from_numpy(np.stack(parts)).to(device)
            for parts in zip(*((one.context[-1], one.actions, one.target) for one in examples), strict=True)
        )
        yield last.float(), actions, target.float()


def latent_shape(config: Config, game: GameSpec) -> tuple[int, ...]:
    """Return the shape [C, h, w] of a frame's latents."""
    with torch.device("meta"):  # its shapes alone
        autoencoder = autoencoders.build(config.autoencoder.name, config.autoencoder.options)
    return autoencoder.latent_shape(game.height, game.width)
