"""Measures how fast a run's parts are, each beside the bare loop that it can at best be as fast as.

Every pair is measured in turns, several times, so that a busy moment of the machine hits both; medians are reported.
The speed of a network does not depend on its weights: where a run is not trained, a model of its architecture is built.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import os
import platform
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import serve

from gamengen import ray_cluster, storage
from gamengen.benchmark_agent import agent
from gamengen.benchmark_model import untrained
from gamengen.benchmark_networks import Measure, networks
from gamengen.benchmark_rates import ROUNDS, SECONDS, in_turns, rate
from gamengen.benchmark_recording import recording
from gamengen.benchmark_scaling import scaling
from gamengen.config import Config
from gamengen.data import shards
from gamengen.engine import GameEngine
from gamengen.serve import app
from gamengen.serve.client import connect
from gamengen.train import denoiser as stage
from gamengen.train.loop import Objective, fit
from gamengen.train.optimizers import make_optimizers
from gamengen.train.trainer import precision

logger = logging.getLogger(__name__)

MIN_SOCKET_FRAMES = 60
MAX_RATE = 60.0  # that a player of any game may ask for


def benchmark(config: Config, parts: str = "") -> dict[str, Any]:
    """Measure recording, training, the engine and the served game, each beside its bare loop; the agent's time; and the
    networks at full size.

    Args:
        parts: some of `PARTS`, with commas; if empty, all but `scaling`, how collection grows with machines, and
            `networks`, networks of any size with random weights. These two, recording and the agent need no models.
    """
    begun = time.perf_counter()
    chosen = parts.split(",") if parts else [part for part in PARTS if part not in _WHERE_ASKED_FOR]
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        raise ValueError(f"unknown part of the benchmark, got {unknown[0]!r}; expected some of {', '.join(PARTS)}.")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="gamengen-benchmark-") as scratch:
        trained = all(storage.exists(f"{config.folder}/{part}/game.json") for part in ("denoiser", "distilled"))
        if not trained and not {*chosen} <= _WITHOUT_MODELS:
            config = untrained(config, scratch)
        figures: dict[str, Any] = {}
        for part in chosen:
            figures |= PARTS[part](config)
    return {
        "phase": "benchmark",
        "run": config.run,
        "parts": chosen,
        "trained": trained,
        **figures,
        "steps_normal": len(config.sampler.timesteps),
        "rounds": ROUNDS,
        "hardware": _hardware() | {"load_before": round(load, 2)},
        "seconds": round(time.perf_counter() - begun, 1),
    }


def _training(config: Config) -> dict[str, Any]:
    """The train job's loop on the run's latents, and forward, backward and step alone on tensors of the same shape."""
    device = torch.device("cuda" if config.train.use_gpu else "cpu")
    game = config.game_spec()
    shard_list = shards.find(f"{config.folder}/latents", game)

    def objective() -> Objective:
        return stage.objective(config, game, shard_list)

    rates = in_turns(
        {
            "train_samples_per_second_bare": lambda: rate(_bare_steps(config, objective(), device)),
            "train_samples_per_second": lambda: _fit_rate(config, objective(), device),
        }
    )
    ratio = rates["train_samples_per_second"] / rates["train_samples_per_second_bare"]
    return rates | {"train_over_bare": round(ratio, 3)}


def _fit_rate(config: Config, objective: Objective, device: torch.device) -> float:
    """Return the samples per second of the loop that the train job runs, data, averages and all."""
    settings = dataclasses.replace(config.train.denoiser, steps=10**9, log_every=10**9, checkpoint_every=10**9)
    marks: list[float] = []

    def loss(network: torch.nn.Module, batch: Any, step: int, examples: slice) -> torch.Tensor:
        marks.append(time.perf_counter())  # between two marks lies one part of a step
        if step > 2 and examples.start == 0 and marks[-1] - marks[1] > SECONDS:  # after a whole step
            raise _EnoughError
        return objective.loss(network, batch, step, examples)

    dtype = precision(config.train.precision, device)
    with contextlib.suppress(_EnoughError):
        fit(dataclasses.replace(objective, loss=loss), settings, device=device, precision=dtype)
    return settings.batch_size / settings.accumulation * (len(marks) - 2) / (marks[-1] - marks[1])


def _bare_steps(config: Config, objective: Objective, device: torch.device) -> Iterator[int]:
    """Forward, backward and step on the same random tensors, over and over."""
    network, size = objective.network.to(device), config.train.denoiser.batch_size
    dtype = precision(config.train.precision, device)
    optimizers = make_optimizers(network, config.train.denoiser)
    batch = tuple(part.to(device) for part in next(objective.batches(0, 0, 1)))
    context, actions, target, *_ = objective.prepare(batch, 0, slice(0, size))
    targets = target.repeat(config.train.denoiser.draws_per_window, 1, 1, 1)
    context, noisy, wanted = (torch.randn(part.shape, device=device) for part in (context, targets, targets))
    timestep = torch.full((len(noisy),), config.sampler.timesteps[0], device=device)
    level = torch.zeros(size, dtype=torch.long, device=device)
    while True:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            velocity = network(noisy, timestep, context, actions, level).float()
            loss = torch.nn.functional.mse_loss(velocity, wanted)
        network.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        float(loss.detach())
        yield size


class _EnoughError(Exception):
    """Ends a training that would go on for ever."""


def _models(config: Config) -> dict[int, str]:
    """Return the folders of the models by their number of steps."""
    return {4: f"{config.folder}/denoiser", 1: f"{config.folder}/distilled"}


def _engines(config: Config) -> dict[str, Any]:
    """One player's steps, frames included, and the same network calls and the decoder alone on random tensors."""
    models = _models(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    measures: dict[str, Callable[[], float]] = {}
    for name, folder in models.items():
        engine = GameEngine.from_pretrained(folder, device=device)
        measures[f"engine_fps_{name}"] = lambda engine=engine: rate(_play(engine))
        measures[f"engine_fps_{name}_bare"] = lambda engine=engine: rate(_network_calls(engine))
    rates = in_turns(measures)
    ratios = {
        f"engine_over_bare_{n}": round(rates[f"engine_fps_{n}"] / rates[f"engine_fps_{n}_bare"], 3) for n in models
    }
    return rates | ratios


def _play(engine: GameEngine) -> Iterator[int]:
    _, state = engine.reset([0], [0])
    for action in itertools.cycle(range(engine.game.num_actions)):
        _, state = engine.step(state, [action])
        yield 1


@torch.inference_mode()
def _network_calls(engine: GameEngine) -> Iterator[int]:
    _, state = engine.reset([0], [0])
    noise = torch.randn(1, *engine.latent_shape, device=engine.device)
    level = torch.zeros(1, dtype=torch.long, device=engine.device)
    timesteps = [torch.full((1,), timestep, device=engine.device) for timestep in engine.sampler.timesteps]
    while True:
        condition = engine.denoiser.condition(state.context, state.actions, level)
        for timestep in timesteps:
            velocity = engine.denoiser.denoise(noise, timestep, *condition)
        engine.autoencoder.decode(velocity).cpu()
        yield 1


def _sockets(config: Config) -> dict[str, Any]:
    """One player of the served game: frames per second in lock-step, how evenly they come, and in real time."""
    models = _models(config)
    is_local = ray_cluster.connect()
    port = _free_port() if is_local else config.serve.port  # a game of this run may be served outside of our own Ray
    settings = {"max_players": 2, "max_batch": 1, "jpeg_quality": config.serve.jpeg_quality, "threads": 0}
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    figures: dict[str, Any] = {}
    try:
        for name, folder in models.items():
            application = app.build({**settings, "model": folder, "use_gpu": config.serve.use_gpu})
            serve.run(application, name="gamengen-benchmark", route_prefix="/benchmark")
            times = [asyncio.run(_times(f"http://127.0.0.1:{port}/benchmark")) for _ in range(ROUNDS)]
            figures[f"socket_fps_{name}"] = round(statistics.median(1 / np.median(part) for part in times), 2)
            played = [asyncio.run(_real_time(f"http://127.0.0.1:{port}/benchmark")) for _ in range(ROUNDS)]
            figures[f"real_time_fps_{name}"] = round(statistics.median(played), 2)
            evenness = statistics.median(np.percentile(part, 95) / np.median(part) for part in times)
            figures[f"socket_p95_over_median_{name}"] = round(float(evenness), 3)
    finally:
        serve.delete("gamengen-benchmark")
        if is_local:
            serve.shutdown()
            ray.shutdown()
    return figures | {"socket_p95_over_median": figures[f"socket_p95_over_median_{next(iter(models))}"]}


async def _times(url: str) -> np.ndarray:
    """Play for `SECONDS` and return the seconds between frames."""
    async with connect(url) as game:
        marks = []
        for action in itertools.cycle(game.spec.actions):
            await game.step(action)
            marks.append(time.perf_counter())
            if len(marks) > MIN_SOCKET_FRAMES and marks[-1] - marks[10] > SECONDS:
                return np.diff(marks[10:])
    raise AssertionError("a game has actions")


async def _real_time(url: str) -> float:
    """Let the game run at the highest rate for `SECONDS` and return the frames per second that come."""
    async with connect(url) as game, contextlib.aclosing(game.play(rate=MAX_RATE)) as frames:
        marks: list[float] = []
        async for frame in frames:
            await game.hold(game.spec.actions[frame.number % len(game.spec.actions)])
            marks.append(time.perf_counter())
            if marks[-1] - marks[0] > SECONDS:
                break
        return (len(marks) - 1) / (marks[-1] - marks[0])


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _hardware() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "gpu": gpu, "torch": torch.__version__}


def _networks(config: Config) -> dict[str, Any]:
    """Random weights of the config's networks, without data: frames, training steps, and how busy the device is."""
    settings = config.train.denoiser
    measure = Measure("cuda" if torch.cuda.is_available() else "cpu", batch_size=min(settings.batch_size, 32))
    return networks(config, config.game_spec(), measure)


_WITHOUT_MODELS = {"recording", "agent", "networks", "scaling"}
_WHERE_ASKED_FOR = {"networks", "scaling"}  # as long as the networks are large; a cluster of its own and minutes
PARTS = {"recording": recording, "agent": agent, "training": _training, "engine": _engines, "socket": _sockets}
PARTS |= {"networks": _networks, "scaling": scaling}
