"""Measures what a run's networks take on a device, at full size with random weights: played frames and training steps.

Imports no Ray: it runs where only the model core is installed, without the game if the size of its frames is given:

    python -m gamengen.benchmark_networks --config configs/tier3_full_doom.yaml --frame 256x320 --compile
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import json
import logging
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gamengen import config as configs
from gamengen.benchmark_rates import rate
from gamengen.checkpoint import Architecture, Model, build_sampler, count_parameters
from gamengen.config import Config
from gamengen.engine import GameEngine
from gamengen.game import GameSpec
from gamengen.models import autoencoders, denoisers, diffusion
from gamengen.models.diffusion import Augmentation, Draws, Schedule
from gamengen.models.precision import fastest
from gamengen.models.sampler import Sampler
from gamengen.train import denoiser as stage
from gamengen.train import flops
from gamengen.train.optimizers import Ema, make_optimizers

logger = logging.getLogger(__name__)

GUIDANCE_SCALE = 1.5  # the paper's
NUM_PLAYERS = 8
NUM_ACTIONS = 18  # where the game is not installed; the speed hardly depends on it


@dataclass(frozen=True)
class Measure:
    """What is measured and how.

    Attributes:
        device: "cuda" or "cpu".
        compile: use torch.compile, for playing and for training.
        batch_size, accumulation: windows of one forward and backward pass, and passes of a training step.
        parts: some of "inference" and "training".
        variants: some of those of the inference, such as "1_step_tiny"; all if empty. Each is compiled by itself.
    """

    device: str
    compile: bool = False
    batch_size: int = 8
    accumulation: int = 1
    parts: tuple[str, ...] = ("inference", "training")
    variants: tuple[str, ...] = ()


def networks(config: Config, game: GameSpec, measure: Measure) -> dict[str, Any]:
    """Measure the config's networks; what fails, such as for want of memory, is told under `errors`."""
    figures: dict[str, Any] = {"compile": measure.compile, "frame": [game.height, game.width], "errors": {}}
    figures["context_length"] = config.denoiser.context_length
    if measure.device == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    if "inference" in measure.parts:
        figures |= _inference(config, game, measure, figures["errors"])
    if "training" in measure.parts:
        figures |= _try("training", figures["errors"], lambda: _training(config, game, measure)) or {}
    return figures


def _try(name: str, errors: dict[str, str], work: Callable[[], Any]) -> Any:
    """Do a piece of work and log it; what goes wrong is noted, and the rest is measured all the same."""
    begun = time.perf_counter()
    try:
        result = work()
    except RuntimeError as error:
        errors[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        result = None
    logger.info("%s: %s (%.0f s)", name, errors.get(name, result), time.perf_counter() - begun)
    return result


def _inference(config: Config, game: GameSpec, measure: Measure, errors: dict[str, str]) -> dict[str, Any]:
    """Frames per second of a player, decoder and copy to the host included: with guidance, without, with one step."""
    model = _model(config, game, config.autoencoder.options, measure.device)
    normal, fast = (build_sampler(stage.scheduler_settings(config, fast=fast)) for fast in (False, True))
    plain = dataclasses.replace(normal, guidance_scale=1.0)
    guided = dataclasses.replace(normal, guidance_scale=GUIDANCE_SCALE)
    figures: dict[str, Any] = {
        "parameters_denoiser": count_parameters(model.denoiser),
        "parameters_autoencoder": count_parameters(model.autoencoder),
        "steps": normal.num_inference_steps,
    }
    samplers = {"steps_guided": (guided, 1), "steps": (plain, 1), "1_step": (fast, 1)}
    for name, (sampler, players) in {**samplers, f"{NUM_PLAYERS}_players": (plain, NUM_PLAYERS)}.items():
        _play(name, model, sampler, players, measure, figures, errors)
    if config.autoencoder.name == "sd":
        options = {**config.autoencoder.options, "decoder": "tiny"}
        coder = autoencoders.build("sd", options).to(measure.device)
        tiny = dataclasses.replace(model, autoencoder=coder)
        for name in ("steps_guided", "1_step"):
            _play(f"{name}_tiny", tiny, *samplers[name], measure, figures, errors)
    return figures


def _play(
    name: str, model: Model, sampler: Sampler, players: int, measure: Measure, figures: dict[str, Any], errors: dict
) -> None:
    """Note a variant's frames per second of each player, and milliseconds of its sampling and of its decoding."""
    if measure.variants and name not in measure.variants:
        return
    _reset_memory(measure.device)

    def work() -> dict[str, Any]:
        engine = GameEngine(model, device=measure.device, sampler=sampler, compile=measure.compile)
        begun = time.perf_counter()
        next(_steps(engine, players))
        warm_up = time.perf_counter() - begun
        fps = rate(_steps(engine, players))
        state, actions = _begin(engine, players), [0] * players
        sampled = rate(_repeated(lambda: engine.step_latents(state, actions)))
        decoded = rate(_repeated(lambda: engine.decode(state.context[:, -1])))
        return {
            f"fps_{name}": round(fps, 2),
            f"sample_ms_{name}": round(1e3 / sampled, 3),
            f"decode_ms_{name}": round(1e3 / decoded, 3),
            f"warm_up_seconds_{name}": round(warm_up, 1),
            f"memory_gb_{name}": _peak_memory(measure.device),
        }

    figures |= _try(name, errors, work) or {}


def _begin(engine: GameEngine, players: int) -> Any:
    latents = torch.randn(players, engine.context_length, *engine.latent_shape, device=engine.device)
    return engine.begin_latents(latents, torch.zeros(players, engine.context_length - 1), range(players))


def _steps(engine: GameEngine, players: int) -> Iterator[int]:
    """Play; yields 1 per frame of each player, on the host."""
    state = _begin(engine, players)
    for action in itertools.cycle(range(engine.game.num_actions)):
        _, state = engine.step(state, [action] * players)
        yield 1


def _repeated(work: Callable[[], Any]) -> Iterator[int]:
    while True:
        work()
        _wait()
        yield 1


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _model(config: Config, game: GameSpec, options: dict[str, Any], device: str) -> Model:
    with torch.device(device):
        autoencoder = autoencoders.build(config.autoencoder.name, options)
        denoiser = stage.build(config, game, autoencoder.latent_shape(game.height, game.width))
    return Model(
        game,
        Architecture(config.autoencoder.name, options),
        autoencoder,
        Architecture(config.denoiser.name, config.denoiser.options),
        denoiser,
        config.denoiser.context_length,
        stage.scheduler_settings(config),
    )


def _training(config: Config, game: GameSpec, measure: Measure) -> dict[str, Any]:
    """Windows per second of whole training steps, and the share of the device's peak that their FLOP are."""
    _reset_memory(measure.device)
    device, latent_shape = torch.device(measure.device), stage.latent_shape(config, game)
    per_window = 3 * _flops(config, game, latent_shape)  # forward, and twice that for backward
    with device:
        network = stage.build(config, game, latent_shape)
    per_second = rate(_train(config, network, latent_shape, game.num_actions, measure))
    achieved, measured = per_window * per_second, _measured_peak(device)
    nominal = flops.peak(device, _precision(config, device))
    return {
        "train_windows_per_second": round(per_second, 2),
        "train_batch_size": measure.batch_size,
        "train_accumulation": measure.accumulation,
        "train_gflop_per_window": round(per_window / 1e9, 3),
        "train_tflops": round(achieved / 1e12, 2),
        "peak_tflops_measured": round(measured / 1e12, 1),
        "peak_tflops_nominal": round(nominal / 1e12, 1),
        "mfu_of_measured_peak": float(f"{achieved / measured:.3g}"),
        "mfu_of_nominal_peak": float(f"{achieved / nominal:.3g}"),
        "train_memory_gb": _peak_memory(measure.device),
    }


def _flops(config: Config, game: GameSpec, latent_shape: tuple[int, int, int]) -> int:
    """Return the FLOP of one forward pass for one window and its draws of noise, counted on shapes alone."""
    length, draws = config.denoiser.context_length, config.train.denoiser.draws_per_window
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = stage.build(config, game, latent_shape)
        level, timestep = torch.zeros(1, dtype=torch.long), torch.zeros(draws, dtype=torch.long)
        actions = torch.zeros(1, length, dtype=torch.long)
        network(torch.zeros(draws, *latent_shape), timestep, torch.zeros(1, length, *latent_shape), actions, level)
    return counter.get_total_flops()


def _train(
    config: Config, network: denoisers.Denoiser, latent_shape: tuple[int, ...], num_actions: int, measure: Measure
) -> Iterator[int]:
    """Take training steps on the same random latents; yields the windows of each."""
    device, settings = torch.device(measure.device), config.train.denoiser
    optimizers, ema = make_optimizers(network, settings), Ema(network, settings.ema_decay)
    schedule = Schedule.create(**stage.scheduler_settings(config)["schedule"]).to(device)
    augmentation = Augmentation(**stage.scheduler_settings(config)["augmentation"])
    shape = (measure.batch_size, config.denoiser.context_length, *latent_shape)
    context, target = torch.randn(shape, device=device), torch.randn(shape[0], *shape[2:], device=device)
    actions = torch.randint(0, num_actions, shape[:2], device=device)
    visited, number = config.sampler.timesteps, settings.draws_per_window
    draws = Draws.sample(shape, len(schedule.alpha_bar), visited, 0.0, 0, number, device)
    dtype = _precision(config, device)
    called: nn.Module = torch.compile(network, dynamic=False) if measure.compile else network
    for step in itertools.count():
        for _ in range(measure.accumulation):
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                loss = diffusion.loss(called, schedule, augmentation, context, actions, target, draws).mean()
            (loss / measure.accumulation).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
        network.zero_grad(set_to_none=True)
        ema.update(network, step)
        loss.item()  # waits for the device
        yield measure.batch_size * measure.accumulation


def _precision(config: Config, device: torch.device) -> torch.dtype | None:
    """Return autocast's type; on a CPU none, whose peak is then that of float32."""
    return fastest(device) if config.train.precision != "fp32" and device.type == "cuda" else None


def _measured_peak(device: torch.device) -> float:
    """Return the FLOP per second of a large matrix product, in bfloat16 on a GPU."""
    side, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    one: Tensor = torch.randn(side, side, device=device, dtype=dtype)

    def products() -> Iterator[int]:
        while True:
            for _ in range(10):
                one @ one
            _wait()
            yield 10

    return 2 * side**3 * rate(products())


def _reset_memory(device: str) -> None:
    gc.collect()  # an engine and its graphs refer to each other
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_memory(device: str) -> float | None:
    return round(torch.cuda.max_memory_reserved() / 2**30, 2) if device == "cuda" else None


def _game(config: Config, frame: str | None) -> GameSpec:
    """Return the game's spec, or where only the size of its frames is given one that has that."""
    if frame is None:
        return config.game_spec()
    try:
        height, width = map(int, frame.split("x"))
    except ValueError:
        raise ValueError(f"--frame, got {frame!r}; expected <rows>x<columns>, such as 256x320.") from None
    actions = tuple(str(number) for number in range(NUM_ACTIONS))
    return GameSpec(config.game.name, height, width, 20.0, 1, actions, {})


def main(arguments: list[str]) -> dict[str, Any]:
    """Measure as the command line says; returns the figures."""
    parser = argparse.ArgumentParser(prog="python -m gamengen.benchmark_networks", description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--frame", help="rows x columns, padding included, where the game is not installed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch", type=int, default=8, help="windows of one pass of a training step")
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--parts", default="inference,training")
    parser.add_argument("--variants", help="some of the inference's, such as steps_guided,1_step_tiny")
    parser.add_argument("overrides", nargs="*", help="key.subkey=value")
    given = parser.parse_args(arguments)
    config = configs.load(given.config, given.overrides)
    parts, variants = (tuple(names.split(",") if names else ()) for names in (given.parts, given.variants))
    measure = Measure(given.device, given.compile, given.batch, given.accumulation, parts, variants)
    hardware = torch.cuda.get_device_name() if given.device == "cuda" else platform.processor() or platform.machine()
    figures = networks(config, _game(config, given.frame), measure)
    return {"phase": "benchmark", "run": config.run, "device": hardware, "torch": torch.__version__, **figures}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    print(json.dumps(main(sys.argv[1:])))
