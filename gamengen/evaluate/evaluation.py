"""The phase as a whole: shares the work out, puts the parts together, writes the report, resumes."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch

from gamengen import config as configs
from gamengen import envs, ray_cluster, storage
from gamengen.config import Config
from gamengen.data import shards
from gamengen.envs import Probes
from gamengen.evaluate import measure, report, rollouts, summary
from gamengen.evaluate.measure import MODELS, ModelFigures, RealFigures
from gamengen.evaluate.pixels import Horizons, NextFrame

logger = logging.getLogger(__name__)


def evaluate(config: Config) -> dict[str, Any]:
    """Compare the run's models with held-out play and write `evaluation/`: report.html, films and sheets.

    Returns the figures of the normal mode, under "fast" those of the 1-step mode and under "real" the real game's.

    Raises:
        ValueError: no model, no held-out play, or play of another game.
    """
    begun = time.perf_counter()
    folder = f"{config.folder}/evaluation"
    shards.find(f"{config.folder}/gameplay", config.game_spec())
    modes = {mode: name for mode, name in MODELS.items() if storage.exists(f"{config.folder}/{name}/game.json")}
    if "normal" not in modes:
        raise ValueError(
            f"no model in {config.folder}/denoiser; expected a trained denoiser. "
            "Train it first: python -m jobs.train --config ... stage=denoiser."
        )
    signature = _signature(config, modes)
    stored = storage.read_json(f"{folder}/evaluation.json") if storage.exists(f"{folder}/evaluation.json") else {}
    if stored.get("signature") == signature:
        logger.info("these models are evaluated already: nothing left to do.")
        seconds = round(time.perf_counter() - begun, 1)
        return {**stored["summary"], "resumed": True, "seconds": seconds}
    probes: Probes | None = getattr(envs.load(config.game.name), "PROBES", None)
    measured = _measure(config, list(modes))
    result = _summarise(config, measured.modes, measured.real, probes)
    result |= {"report": f"{folder}/report.html", "resumed": False}
    result["seconds"] = round(time.perf_counter() - begun, 1)
    report.write(config, folder, measured.modes, measured.real, probes, result, measured.hardware)
    storage.write_json(f"{folder}/evaluation.json", {"signature": signature, "summary": result})
    return result


def _summarise(
    config: Config, figures: dict[str, ModelFigures], real: RealFigures | None, probes: Probes | None
) -> dict[str, Any]:
    fast = figures.get("fast")
    result = {"phase": "evaluate", **summary.of_model(config, figures["normal"], real, probes)}
    result["fast"] = summary.of_model(config, fast, real, probes) if fast else None
    if fast is None:
        result["reasons"]["fast"] = "no distilled model; train one with stage=distill"
    result["real"] = summary.of_real(config, real, probes)
    return result


def _signature(config: Config, modes: dict[str, str]) -> dict[str, Any]:
    """What the figures depend on."""
    tree = configs.to_dict(config)
    settings = {key: value for key, value in tree["evaluate"].items() if key not in ("num_workers", "use_gpu")}
    prints = {}
    for mode, name in modes.items():
        digest = hashlib.sha256()
        for part in ("denoiser/model.safetensors", "autoencoder/model.safetensors", "scheduler/config.json"):
            digest.update(storage.read_bytes(f"{config.folder}/{name}/{part}"))
        prints[mode] = digest.hexdigest()
    names = [path.rpartition("/")[2] for path in storage.list_files(f"{config.folder}/gameplay", ".parquet")]
    return {"evaluate": settings, "game": tree["game"], "seed": config.seed, "models": prints, "gameplay": names}


@dataclass(frozen=True)
class Measured:
    """What was measured of every mode and of the real game, and on what machine."""

    modes: dict[str, ModelFigures]
    real: RealFigures | None
    hardware: str


def _measure(config: Config, modes: Sequence[str]) -> Measured:
    """Measure the real game and every mode, here or as Ray tasks; what is lost with a node is done again.

    On CPUs, several workers of one thread each are steadier than one of several threads, which wait for each other on a
    machine that does other things too.
    """
    settings = config.evaluate
    world = max(1, min(settings.num_workers, settings.num_rollouts, settings.num_windows, settings.num_horizon_starts))
    if world == 1 and not settings.use_gpu:
        parts = [_share(config, modes, 0, 1)]
    else:
        ray_cluster.connect()
        task = ray.remote(_share).options(num_cpus=1, num_gpus=1 if settings.use_gpu else None, max_retries=3)
        parts = ray.get([task.remote(config, modes, rank, world) for rank in range(world)])
    reals = [part.real for part in parts if part.real is not None]
    hardware = parts[0].hardware + (f", {world} workers" if world > 1 else "")
    figures = {mode: _merge_model([part.modes[mode] for part in parts]) for mode in modes}
    return Measured(figures, _merge_real(reals), hardware)


def _share(config: Config, modes: Sequence[str], rank: int, world: int) -> Measured:
    if world > 1:
        form = f"%(asctime)s worker {rank}: %(message)s"
        logging.basicConfig(level=logging.INFO, format=form, datefmt="%H:%M:%S", force=True)
    real = measure.measure_real(config, rank, world)
    figures = {mode: measure.measure_model(config, mode, rank, world) for mode in modes}
    return Measured(figures, real, _hardware(config))


def _merge_model(parts: Sequence[ModelFigures]) -> ModelFigures:
    first = parts[0]
    games = [part.rollouts for part in parts if part.rollouts is not None]
    return ModelFigures(
        NextFrame(**{
            name: np.concatenate([getattr(part.next_frame, name) for part in parts])
            for name in NextFrame.__dataclass_fields__
        }),
        Horizons(
            np.concatenate([part.horizons.psnr for part in parts]),
            np.concatenate([part.horizons.hold for part in parts]),
            first.horizons.clips,
        ),
        _join([part.followed for part in parts]) if first.followed is not None else None,
        rollouts.merge(games) if games else None,
    )  # fmt: skip


def _merge_real(parts: Sequence[RealFigures]) -> RealFigures | None:
    if not parts:
        return None
    joined = rollouts.merge([part.rollouts for part in parts])
    return RealFigures(_join([part.followed for part in parts]), joined, parts[0].references)


def _join(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _hardware(config: Config) -> str:
    if config.evaluate.use_gpu:
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"
