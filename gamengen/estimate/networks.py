"""What a run's networks are and what each of their calls takes, counted on the meta device for one frame."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gamengen.checkpoint import count_parameters
from gamengen.config import Config, SamplerConfig
from gamengen.estimate.counting import Count, count, on_meta
from gamengen.game import GameSpec
from gamengen.models import architecture, autoencoders, denoisers
from gamengen.train import denoiser as stage


@dataclass(frozen=True)
class Networks:
    """A run's autoencoder and denoiser, and what they take.

    Attributes:
        encode, decode: a frame.
        reconstruct: a crop of the stage `autoencoder`, both ways.
        condition: a past that is read, once a frame; denoise: a step of sampling.
        window, distilled: an example of the stages `denoiser` and `distill`, all its draws.
        checkpointed: as `window`, with gradient checkpointing, where the architecture has it.
    """

    autoencoder: autoencoders.Autoencoder
    denoiser: denoisers.Denoiser
    latent_shape: tuple[int, int, int]
    encode: Count
    decode: Count
    reconstruct: Count
    condition: Count
    denoise: Count
    window: Count
    distilled: Count
    checkpointed: Count | None

    def sample_flops(self, sampler: SamplerConfig, draws: int = 1) -> float:
        """Return the operations of `draws` samples for one past; with guidance, both branches are computed."""
        branches = 1 if sampler.guidance_scale == 1.0 else 2
        return branches * (self.condition.flops + draws * len(sampler.timesteps) * self.denoise.flops)

    def frame_flops(self, sampler: SamplerConfig) -> float:
        """Return the operations of a frame that is played: its latents and its picture."""
        return self.sample_flops(sampler) + self.decode.flops

    @property
    def parameters(self) -> dict[str, int]:
        return {"autoencoder": count_parameters(self.autoencoder), "denoiser": count_parameters(self.denoiser)}


def of(config: Config, game: GameSpec) -> Networks:
    """Count a run's networks.

    Raises:
        ValueError: an architecture or sizes that do not go together.
    """
    with on_meta():
        autoencoder = autoencoders.build(config.autoencoder.name, config.autoencoder.options).train()
    shape = autoencoder.latent_shape(game.height, game.width)
    crop = min(config.train.autoencoder.crop, shape[1] * autoencoder.factor, shape[2] * autoencoder.factor)
    frame, part = _empty(1, 3, game.height, game.width), _empty(1, 3, crop, crop)
    denoiser = _denoiser(config, game, shape)
    train = config.train
    one, window, distilled = (
        _inputs(config, shape, draws) for draws in (1, train.denoiser.draws_per_window, train.distill.draws_per_window)
    )
    noisy, timestep, *past = one
    condition = denoiser.condition(*past)
    checkpointed = _checkpointing(config)
    return Networks(
        autoencoder,
        denoiser,
        shape,
        encode=count(autoencoder, lambda: autoencoder.encode(frame)),
        decode=count(autoencoder, lambda: autoencoder.decode(_empty(1, *shape))),
        reconstruct=count(autoencoder, lambda: autoencoder.decode_raw(autoencoder.encode_raw(part))),
        condition=count(denoiser, lambda: denoiser.condition(*past)),
        denoise=count(denoiser, lambda: denoiser.denoise(noisy, timestep, *condition)),
        window=count(denoiser, lambda: denoiser(*window)),
        distilled=count(denoiser, lambda: denoiser(*distilled)),
        checkpointed=_count_checkpointed(checkpointed, game, shape, window) if checkpointed else None,
    )


def _checkpointing(config: Config) -> Config | None:
    """Return the config with gradient checkpointing, None where the architecture has none."""
    module = architecture.find(denoisers, config.denoiser.name)
    if "gradient_checkpointing" not in {field.name for field in dataclasses.fields(module.Config)}:
        return None
    options = {**config.denoiser.options, "gradient_checkpointing": True}
    return dataclasses.replace(config, denoiser=dataclasses.replace(config.denoiser, options=options))


def _count_checkpointed(config: Config, game: GameSpec, shape: tuple[int, int, int], inputs: list[Tensor]) -> Count:
    network = _denoiser(config, game, shape)
    return count(network, lambda: network(*inputs))


def _denoiser(config: Config, game: GameSpec, shape: tuple[int, int, int]) -> denoisers.Denoiser:
    """Build the denoiser; what is counted is what the options say, so without checkpointing unless they say it."""
    with on_meta():
        return stage.build(config, game, shape).train()


def _inputs(config: Config, shape: tuple[int, int, int], draws: int) -> list[Tensor]:
    """Return what `denoisers.Denoiser.forward` takes for one window with K draws."""
    length = config.denoiser.context_length
    return [
        _empty(draws, *shape),
        _empty(draws, dtype=torch.long),
        _empty(1, length, *shape),
        _empty(1, length, dtype=torch.long),
        _empty(1, dtype=torch.long),
    ]


def _empty(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(*size, dtype=dtype, device="meta")


def num_gpus(config: Config) -> int:
    """Return how many GPUs the run trains on, at most where it takes what there is."""
    workers = config.train.num_workers
    return max(workers) if isinstance(workers, tuple) else workers


def matrices(network: nn.Module) -> int:
    """Return how many of a network's weights are kernels and matrices of layers, which Muon takes."""
    layers = (module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    return sum(weight.numel() for weight in layers)
