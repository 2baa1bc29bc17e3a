"""What each phase of a run will make and take: frames, bytes on disk, operations, time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gamengen import envs
from gamengen.collect.holding import frames_per_decision
from gamengen.config import Config, SamplerConfig, StageConfig, WindowStage
from gamengen.estimate import memory
from gamengen.estimate.hardware import BYTES_PER_PIXEL, RECORDED_PER_CORE, Device
from gamengen.estimate.networks import Networks, num_gpus
from gamengen.game import GameSpec

CHECKPOINTS_KEPT = 2
LATENT_BYTES = 2  # float16


@dataclass(frozen=True)
class Phase:
    """What is not known is None.

    Attributes:
        frames: that are recorded, or read, or the examples that are trained on.
        flops: on GPUs (or on the CPUs in their place).
        seconds: of `devices` of them together; for play, of the cores of all runners, and at least.
    """

    name: str
    frames: float
    bytes_on_disk: float | None
    flops: float
    devices: int
    seconds: float | None
    on_gpu: bool

    @property
    def device_hours(self) -> float | None:
        return None if self.seconds is None else self.seconds * self.devices / 3600


def of(config: Config, game: GameSpec, networks: Networks, device: Device, mfu: float) -> list[Phase]:
    """Return the phases of a run in their order."""
    played = _agent_frames(config)
    frames = played + config.collect.num_frames
    speed = mfu * (device.fp32 if config.train.precision == "fp32" else device.bf16)
    train = config.train
    phases = [] if config.collect.import_folder is not None else [_play(config, game, "train_agent", played)]
    phases.append(_play(config, game, "collect", config.collect.num_frames))
    phases.append(
        _stage("autoencoder", train.autoencoder, config, speed, 3 * networks.reconstruct.flops, networks.autoencoder)
    )
    encoders = _count(config.encode.num_workers, config)
    seconds = frames * networks.encode.flops / (speed * encoders)
    latents = frames * math.prod(networks.latent_shape) * LATENT_BYTES
    encoded = frames * networks.encode.flops
    phases.append(Phase("encode", frames, latents, encoded, encoders, seconds, config.encode.use_gpu))
    flops = 3 * networks.window.flops + _unrolled_flops(train.denoiser, config.sampler, networks)
    phases.append(_stage("denoiser", train.denoiser, config, speed, flops, networks.denoiser))
    flops = _distill_flops(config, networks)
    phases.append(_stage("distill", train.distill, config, speed, flops, networks.denoiser))
    if train.decoder.steps:
        share = min(train.decoder.crop, game.height, game.width) ** 2 / (game.height * game.width)
        flops = share * (networks.encode.flops + 3 * networks.decode.flops)
        phases.append(_stage("decoder", train.decoder, config, speed, flops, networks.autoencoder))
    phases.append(_evaluate(config, networks, speed))
    return phases


def _unrolled_flops(settings: WindowStage, sampler: SamplerConfig, networks: Networks) -> float:
    """Return the operations of the frames that a network makes itself for an example, the mean over a stage's steps."""
    if not settings.unrolled_steps:
        return 0.0
    frames = settings.unrolled_steps / settings.steps / settings.unrolled_every
    return frames * networks.sample_flops(sampler)


def _distill_flops(config: Config, networks: Networks) -> float:
    """Return the operations of an example of distillation, the mean over its steps."""
    settings, call = config.train.distill, networks.distilled.flops
    if not settings.steps:
        return 0.0
    teacher = networks.sample_flops(config.sampler, settings.draws_per_window)
    turns = settings.fake_score_steps + 1
    fake = call + 3 * call  # the generator makes a frame, and the fake-score network learns it
    scores = (1 if settings.guidance_scale == 1.0 else 2) * call + call  # the teacher's and the fake-score network's
    generator = 3 * call + scores + (teacher if settings.regression_weight else 0.0)
    matching = (settings.fake_score_steps * fake + generator) / turns
    share = settings.matching_steps / settings.steps
    unrolled = _unrolled_flops(settings, config.fast_sampler, networks)
    return share * matching + (1 - share) * (teacher + 3 * call) + unrolled


def _count(workers: int | str, config: Config) -> int:
    """Return a number of workers; where it is "auto", as many as the training has GPUs: what there is nobody knows."""
    return num_gpus(config) if workers == "auto" else int(workers)


def _agent_frames(config: Config) -> float:
    """Return how many frames the training of an agent records at most."""
    if config.collect.import_folder is not None:
        return 0
    env = envs.make(config.game.name, **config.game.options)
    try:
        return config.agent.max_env_steps * frames_per_decision(env) * config.agent.recorded_share
    finally:
        env.close()


def _play(config: Config, game: GameSpec, name: str, frames: float) -> Phase:
    per_pixel = BYTES_PER_PIXEL.get(config.game.name, {}).get(config.collect.codec)
    size = None if per_pixel is None else frames * per_pixel * game.height * game.width
    rate = RECORDED_PER_CORE.get(config.game.name)
    if name == "collect":
        runners, shown = max(1, _count(config.collect.num_runners, config)), frames
    else:
        runners = max(1, config.agent.num_runners)
        shown = frames / config.agent.recorded_share if config.agent.recorded_share else frames
    rendered = config.game.options.get("supersampling", 1) ** 2  # pixels for each that is shown
    seconds = None if rate is None else rendered * shown / rate / runners
    return Phase(name, frames, size, 0.0, runners, seconds, on_gpu=False)


def _stage(
    name: str, settings: StageConfig, config: Config, speed: float, example_flops: float, network: object
) -> Phase:
    """Return a stage of training; its disk is that of the checkpoints and of the model folder."""
    examples = settings.steps * settings.batch_size
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())  # type: ignore[attr-defined]
    state = 2 * weights + memory.optimizer_bytes(network, settings.optimizer)  # type: ignore[arg-type]
    workers, flops = num_gpus(config), examples * example_flops
    seconds = flops / (speed * workers)
    size = CHECKPOINTS_KEPT * state + weights if settings.steps else 0.0
    return Phase(name, examples, size, flops, workers, seconds, config.train.use_gpu)


def _evaluate(config: Config, networks: Networks, speed: float) -> Phase:
    """Return what playing both models for the figures takes."""
    settings = config.evaluate
    frames = settings.num_windows + settings.num_horizon_starts * max(settings.horizons)
    frames += settings.num_rollouts * settings.rollout_frames
    flops = frames * sum(networks.frame_flops(sampler) for sampler in (config.sampler, config.fast_sampler))
    workers = settings.num_workers
    return Phase("evaluate", 2 * frames, None, flops, workers, flops / (speed * workers), settings.use_gpu)
