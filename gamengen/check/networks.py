"""The part `model`: a run's networks take a training step, at full size without memory, on a small input for real."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamengen.checkpoint import build_sampler, count_parameters
from gamengen.config import Config, StageConfig
from gamengen.game import GameSpec
from gamengen.models import architecture, autoencoders, denoisers, diffusion, pretrained
from gamengen.models.diffusion import Augmentation, Draws, Schedule
from gamengen.train import denoiser as stage
from gamengen.train.optimizers import make_optimizers

_SIDES = (8, 16, 32)  # of the small latents: the first that the denoiser accepts
_META = torch.device("meta")  # shapes without memory


def has_gpu() -> bool:
    return torch.cuda.is_available()


def train_step(config: Config, game: GameSpec, frame: np.ndarray) -> str:
    """Take a step of the autoencoder, on a frame uint8 [H, W, 3], and of the denoiser, and sample with the latter."""
    device = torch.device("cuda" if config.train.use_gpu and has_gpu() else "cpu")
    with _META:
        autoencoder = autoencoders.build(config.autoencoder.name, config.autoencoder.options)
        shape = autoencoder.latent_shape(game.height, game.width)
        denoiser = stage.build(config, game, shape)
    _denoiser_loss(config, denoiser, shape).backward()

    config = _narrow(config)
    coder = autoencoders.build(config.autoencoder.name, config.autoencoder.options).to(device)
    image = autoencoders.to_images(torch.from_numpy(frame)[None].to(device))
    _step("autoencoder", coder, config.train.autoencoder, lambda: _coder_loss(coder, image))
    small, small_shape = _small_denoiser(config, game, shape)
    small = small.to(device)
    _step("denoiser", small, config.train.denoiser, lambda: _denoiser_loss(config, small, small_shape))
    _sample(config, small.eval(), small_shape)
    sizes = [
        f"{chosen.name} of {count_parameters(part) / 1e6:.1f}M parameters"
        for chosen, part in ((config.autoencoder, autoencoder), (config.denoiser, denoiser))
    ]
    return f"{' and '.join(sizes)} train on the {device.type}, a frame is sampled"


def weights_to_get(config: Config) -> list[str]:
    """Return a line for each network whose pretrained weights, of a hub, are not on this machine."""
    lines = []
    for part, subfolder in (("autoencoder", "vae"), ("denoiser", "unet")):
        source = getattr(config, part).options.get("pretrained")
        if source is not None and not pretrained.is_here(source, subfolder):
            lines.append(
                f"{part}.options.pretrained: {source} is not on this machine, its training gets it where the hub is "
                f"within reach. Get it before: hf download {source} --include '{subfolder}/*'"
            )
    return lines


def _narrow(config: Config) -> Config:
    """Return the config with Stable Diffusion's networks, where it has them, as narrow as their layers can be.

    At full width a step takes minutes and much memory on a CPU; and a check loads no weights.
    """
    replaced = {}
    for part, package in (("autoencoder", autoencoders), ("denoiser", denoisers)):
        chosen = getattr(config, part)
        if chosen.name in ("sd", "unet"):
            full = architecture.configure(architecture.find(package, chosen.name), chosen.options)
            channels = [width * full.norm_num_groups // full.channels[0] for width in full.channels]
            options = {**chosen.options, "channels": channels, "pretrained": None}
            replaced[part] = dataclasses.replace(chosen, options=options)
    return dataclasses.replace(config, **replaced)


def _step(name: str, network: nn.Module, settings: StageConfig, loss: Callable[[], Tensor]) -> None:
    """Take a step and look at what it did."""
    before = _norms(network)
    value = loss()
    value.backward()
    for optimizer in make_optimizers(network, settings):
        optimizer.step()
    after = _norms(network)
    if not math.isfinite(value.item()) or not all(map(math.isfinite, after)):
        raise ValueError(f"the {name} is not finite after a training step, its loss was {value.item():g}.")
    if before == after:
        raise ValueError(f"the {name} learns nothing: a training step leaves all of its parameters as they are.")


@torch.no_grad()
def _norms(network: nn.Module) -> list[float]:
    """Return what tells one state of a network from another; copies of large ones would fill the memory."""
    return [parameter.norm().item() for parameter in network.parameters()]


def _coder_loss(autoencoder: nn.Module, images: Tensor) -> Tensor:
    return F.mse_loss(autoencoder.decode(autoencoder.encode(images)), images)


def _denoiser_loss(config: Config, denoiser: nn.Module, shape: Sequence[int]) -> Tensor:
    """The stage's loss of one window of noise."""
    device, noise = next(denoiser.parameters()).device, config.diffusion
    length, timesteps = config.denoiser.context_length, config.sampler.timesteps
    settings, num_draws = stage.scheduler_settings(config), config.train.denoiser.draws_per_window
    draws = Draws.sample(
        (1, length, *shape), noise.num_train_timesteps, timesteps, noise.start_fraction, config.seed, num_draws
    )
    return diffusion.loss(
        denoiser,
        Schedule.create(**settings["schedule"]),
        Augmentation(**settings["augmentation"]),
        torch.randn(1, length, *shape, device=device),
        torch.zeros(1, length, dtype=torch.long, device=device),
        torch.randn(1, *shape, device=device),
        draws.to(device),
    ).mean()


def _small_denoiser(
    config: Config, game: GameSpec, shape: Sequence[int]
) -> tuple[denoisers.Denoiser, tuple[int, int, int]]:
    """Build the denoiser for small latents, and return their shape; its layers are as wide as ever."""
    channels, rows, columns = shape
    for side in _SIDES:
        small = (channels, min(side, rows), min(side, columns))
        with contextlib.suppress(ValueError):  # a size that its levels do not divide
            return stage.build(config, game, small), small
    return stage.build(config, game, shape), (channels, rows, columns)


@torch.no_grad()
def _sample(config: Config, denoiser: denoisers.Denoiser, shape: Sequence[int]) -> None:
    device, length = next(denoiser.parameters()).device, config.denoiser.context_length
    for fast in (False, True):
        sampler = build_sampler(stage.scheduler_settings(config, fast=fast))
        context = torch.randn(1, length, *shape, device=device)
        actions = torch.zeros(1, length, dtype=torch.long, device=device)
        latents = sampler(denoiser, context, actions, torch.randn(1, *shape, device=device))
        if latents.shape != (1, *shape) or not bool(latents.isfinite().all()):
            raise ValueError(f"sampling gives latents {tuple(latents.shape)}; expected finite ones of (1, *{shape}).")
