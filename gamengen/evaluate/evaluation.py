"""The phase as a whole: shares the work out, puts the parts together, writes the report, resumes."""

from __future__ import annotations

import dataclasses
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
from gamengen import envs, model_card, placement, ray_cluster, storage
from gamengen.config import Config
from gamengen.data import shards
from gamengen.envs import Probes
from gamengen.evaluate import decoders, held_out, inverse_dynamics, measure, report, rollouts, summary, tables
from gamengen.evaluate.groups import Groups
from gamengen.evaluate.judges import Judges
from gamengen.evaluate.measure import MODELS, ModelFigures, RealFigures
from gamengen.evaluate.rollouts import Rollouts
from gamengen.evaluate.tables import Row, RowFigures

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
    reasons = Judges.load(config.evaluate).reasons  # before hours of work: are all weights there?
    signature = {**_signature(config, modes), "missing": sorted(reasons)}
    stored = storage.read_json(f"{folder}/evaluation.json") if storage.exists(f"{folder}/evaluation.json") else {}
    if stored.get("signature") == signature:
        logger.info("these models are evaluated already: nothing left to do.")
        _write_cards(config, modes, stored["summary"], stored.get("hardware", "unknown hardware"))
        seconds = round(time.perf_counter() - begun, 1)
        return {**stored["summary"], "resumed": True, "seconds": seconds}
    probes = _probes(config)
    for reason in reasons.values():
        logger.info("%s", reason)
    inverse_dynamics.prepare(config)
    measured = _measure(config, list(modes))
    result = _summarise(config, measured, probes)
    result["reasons"] |= reasons
    decoded = decoders.measure(config)
    result["decoder"] = decoders.figures_of(decoded)
    result |= {"report": f"{folder}/report.html", "resumed": False}
    result["seconds"] = round(time.perf_counter() - begun, 1)
    report.write(config, folder, measured.modes, measured.real, probes, result, measured.hardware, decoded)
    found = {"signature": signature, "hardware": measured.hardware, "summary": result}
    storage.write_json(f"{folder}/evaluation.json", found)
    _write_cards(config, modes, result, measured.hardware)
    return result


def _write_cards(config: Config, modes: dict[str, str], result: dict[str, Any], hardware: str) -> None:
    """Put the figures of each mode into its model's folder."""
    licence = envs.licence(config.game.name)
    for mode, name in modes.items():
        figures = result if mode == "normal" else result[mode]
        model_card.add_evaluation(f"{config.folder}/{name}", figures, hardware, licence)


def _summarise(config: Config, measured: Measured, probes: Probes | None) -> dict[str, Any]:
    normal, fast, real = measured.modes["normal"], measured.modes.get("fast"), measured.real
    result = {"phase": "evaluate", **summary.of_model(config, normal, real, probes)}
    result["fast"] = summary.of_model(config, fast, real, probes) if fast else None
    if fast is None:
        result["reasons"]["fast"] = "no distilled model; train one with stage=distill"
    result["real"] = summary.of_real(config, real, probes)
    base = normal.baselines
    whole = tables.RowFigures(normal.next_frame.scores, base.copy_last, base.ceiling, normal.horizons.scores, base.hold)
    result["tables"] = tables.figures_of(config, measured.rows) | measured.groups.figures_of(config, whole)
    return result


def _signature(config: Config, modes: dict[str, str]) -> dict[str, Any]:
    """What the figures depend on."""
    tree = configs.to_dict(config)
    settings = {key: value for key, value in tree["evaluate"].items() if key not in ("num_workers", "use_gpu")}
    folders = {mode: f"{config.folder}/{name}" for mode, name in modes.items()}
    prints = {name: _fingerprint(folder) for name, folder in (folders | config.evaluate.tables.models).items()}
    names = [path.rpartition("/")[2] for path in storage.list_files(f"{config.folder}/gameplay", ".parquet")]
    return {"evaluate": settings, "game": tree["game"], "seed": config.seed, "models": prints, "gameplay": names}


def _fingerprint(folder: str) -> str:
    digest = hashlib.sha256()
    for part in ("denoiser/model.safetensors", "autoencoder/model.safetensors", "scheduler/config.json"):
        digest.update(storage.read_bytes(f"{folder}/{part}"))
    return digest.hexdigest()


@dataclass(frozen=True)
class Measured:
    """What was measured of every mode and of the real game, and on what machine."""

    modes: dict[str, ModelFigures]
    real: RealFigures | None
    rows: dict[Row, RowFigures]
    groups: Groups
    hardware: str


def _measure(config: Config, modes: Sequence[str]) -> Measured:
    """Measure the real game and every mode, here or as Ray tasks; what is lost with a node is done again.

    On CPUs, several workers of one thread each are steadier than one of several threads, which wait for each other on a
    machine that does other things too.
    """
    settings = config.evaluate
    workers = settings.num_workers
    if workers == "auto":
        ray_cluster.connect()
        workers = placement.room(placement.TRAIN, num_cpus=1, num_gpus=int(settings.use_gpu))
    world = max(1, min(workers, settings.num_rollouts, settings.num_windows, settings.num_horizon_starts))
    if world == 1 and not settings.use_gpu:
        parts = [_share(config, modes, 0, 1)]
    else:
        ray_cluster.connect()
        place = placement.options(placement.TRAIN)
        task = ray.remote(_share).options(num_cpus=1, num_gpus=int(settings.use_gpu), max_retries=3, **place)
        parts = ray.get([task.remote(config, modes, rank, world) for rank in range(world)])
    reals = [part.real for part in parts if part.real is not None]
    hardware = parts[0].hardware + (f", {world} workers" if world > 1 else "")
    figures = {mode: _merge([part.modes[mode] for part in parts]) for mode in modes}
    real = dataclasses.replace(_merge(reals), references=reals[0].references) if reals else None
    rows, groups = (_merge([getattr(part, name) for part in parts]) for name in ("rows", "groups"))
    return Measured(figures, real, rows, groups, hardware)


def _share(config: Config, modes: Sequence[str], rank: int, world: int) -> Measured:
    if world > 1:
        form = f"%(asctime)s worker {rank}: %(message)s"
        logging.basicConfig(level=logging.INFO, format=form, datefmt="%H:%M:%S", force=True)
    episodes = held_out.load(f"{config.folder}/gameplay", config.game_spec(), config.seed)
    work = measure.plan(config, episodes, _probes(config)).share(rank, world)
    judges = Judges.load(config.evaluate)
    return Measured(
        real=measure.measure_real(config, episodes, work, rank, world),
        modes=measure.measure_models(config, modes, work, judges, rank, world),
        rows=tables.measure(config, work.table_windows, work.table_starts, judges),
        groups=Groups.of(config, work.windows, work.horizons),
        hardware=_hardware(config),
    )


def _probes(config: Config) -> Probes | None:
    return getattr(envs.load(config.game.name), "PROBES", None)


def _merge(parts: Sequence[Any]) -> Any:
    """Join what the workers measured: arrays one after the other, dataclasses and dicts entry by entry."""
    parts = [part for part in parts if part is not None] or [None]
    first = parts[0]
    if isinstance(first, Rollouts):
        return rollouts.merge(parts)
    if isinstance(first, np.ndarray):
        return np.concatenate([part for part in parts if part.size] or [first])
    if isinstance(first, dict):
        return {key: _merge([part[key] for part in parts]) for key in first}
    if dataclasses.is_dataclass(first):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first)(*(_merge([getattr(part, name) for part in parts]) for name in names))
    return first  # films are the first worker's


def _hardware(config: Config) -> str:
    if config.evaluate.use_gpu:
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"
