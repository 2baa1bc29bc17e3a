"""Carries a stage on Ray Train: workers, checkpoints that survive them, the log, and the model folder at the end."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import ray.train
import ray.train.torch
import torch
from ray.train.torch import TorchTrainer
from torch import Tensor, nn

from gamengen import config as configs
from gamengen import envs, monitor, placement, ray_cluster, storage
from gamengen.checkpoint import Architecture, Model, weights_fingerprint
from gamengen.config import Config, StageConfig
from gamengen.data import shards
from gamengen.game import GameSpec
from gamengen.models.precision import fastest
from gamengen.placement import TRAIN
from gamengen.train import autoencoder, decoder, denoiser, distill, states, workers
from gamengen.train.log import Log
from gamengen.train.loop import Objective, fit

logger = logging.getLogger(__name__)
Stage = Literal["autoencoder", "denoiser", "distill", "decoder"]
FOLDERS = {"autoencoder": "autoencoder", "denoiser": "denoiser", "distill": "distilled", "decoder": "decoder"}
_OF_FRAMES = ("autoencoder", "decoder")  # stages that learn from gameplay; the others do from latents
NUM_STARTS = 16


def train(config: Config, stage: Stage) -> dict[str, Any]:
    """Train one stage to its number of steps and write its model folder; goes on from the last checkpoint.

    Raises:
        ValueError: missing or damaged data, a missing teacher, settings that do not fit together.
        ray.train.TrainingFailedError: the workers failed more often than `train.max_failures`.
    """
    if stage not in FOLDERS:
        raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(FOLDERS)}.")
    num_workers = workers.count(config)
    settings: StageConfig = getattr(config.train, stage)
    if _is_sharded(config, stage) and (settings.optimizer != "adamw" or config.train.compile):
        raise ValueError(
            f"train.sharded, got optimizer {settings.optimizer} and compile {config.train.compile}; expected adamw, as "
            "Muon and Adafactor need whole matrices (and little memory), and no torch.compile."
        )
    begun = time.perf_counter()
    folder = f"{config.folder}/{FOLDERS[stage]}"
    game = config.game_spec()
    shard_list = shards.find(f"{config.folder}/{'gameplay' if stage in _OF_FRAMES else 'latents'}", game)
    signature = _signature(config, stage, shard_list)
    finished = _finished(folder, signature)
    if finished is not None:
        logger.info("%s is trained already: nothing left to do.", stage)
        return {**finished, "resumed": True, "seconds": round(time.perf_counter() - begun, 1)}
    ray_cluster.connect()
    _objective(config, stage, game, shard_list)  # a user's mistake shows here, in one line
    trainer = TorchTrainer(
        _counted_worker,
        train_loop_config={
            "config": configs.to_dict(config),
            "stage": stage,
            "shards": shard_list,
            "signature": signature,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers,
            use_gpu=config.train.use_gpu,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if config.train.use_gpu else {}), **placement.mark(TRAIN)},
        ),
        run_config=ray.train.RunConfig(
            name=_checkpoints(stage, signature),
            storage_path=f"{config.folder}/training",
            failure_config=ray.train.FailureConfig(max_failures=config.train.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        trainer.fit()
    except ray.train.WorkerGroupError as error:
        mistakes = [failure for failure in error.worker_failures.values() if isinstance(failure, ValueError)]
        if mistakes:
            raise ValueError(f"stage {stage}: {str(mistakes[0]).strip().splitlines()[-1]}") from None
        raise
    elapsed = time.perf_counter() - begun
    figures = storage.read_json(f"{folder}/provenance.json")["figures"]
    return {**figures, "steps": settings.steps, "resumed": False, "seconds": round(elapsed, 1)}


def _finished(folder: str, signature: dict[str, Any]) -> dict[str, Any] | None:
    if not storage.exists(f"{folder}/game.json"):
        return None
    provenance = storage.read_json(f"{folder}/provenance.json")
    return provenance["figures"] if provenance.get("signature") == signature else None


def _signature(config: Config, stage: Stage, shard_list: Sequence[str]) -> dict[str, Any]:
    """What a finished stage depends on; where it differs, the stage is trained on, or anew (`_checkpoints`)."""
    tree = configs.to_dict(config)
    keys = ["game", "autoencoder"] + (["denoiser", "diffusion", "sampler"] if stage not in _OF_FRAMES else [])
    keys += ["fast_sampler"] if stage == "distill" else []
    signature = {key: tree[key] for key in keys} | {"stage": tree["train"][stage], "shards": len(shard_list)}
    source = {"denoiser": "autoencoder", "distill": "denoiser", "decoder": "autoencoder"}.get(stage)
    if source is not None:
        try:
            signature["weights"] = weights_fingerprint(f"{config.folder}/{source}", source)
        except FileNotFoundError:
            raise ValueError(f"no {source} in {config.folder}/{source}. Train it first: stage={source}.") from None
    return signature


def _checkpoints(stage: Stage, signature: dict[str, Any]) -> str:
    """Return the folder of a stage's checkpoints: another network, other latents or another teacher have another one,
    since a training that went on from these would be neither's."""
    kept = {key: signature[key] for key in ("game", "autoencoder", "denoiser", "weights") if key in signature}
    return f"{stage}-{hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]}"


def _check_goes_on(state: dict[str, Any], job: dict[str, Any]) -> None:
    """Raise a ValueError where a training that is at its end was not with these settings: nothing would be trained."""
    stage, steps = job["stage"], job["signature"]["stage"]["steps"]
    same = _lasting(state["signature"]) == _lasting(job["signature"])
    if state["step"] > steps or (state["step"] == steps and not same):
        folder = f"training/{_checkpoints(stage, job['signature'])}"
        raise ValueError(
            f"train.{stage}.steps, got {steps}: it is trained to step {state['step']} with other settings or data; "
            f"expected more steps, to go on with these. Delete the run's {folder} to begin anew."
        )


def _lasting(signature: dict[str, Any]) -> dict[str, Any]:
    """Return a signature without what says only for how long, and how often something is written."""
    told = ("steps", "log_every", "checkpoint_every")
    return {**signature, "stage": {key: value for key, value in signature["stage"].items() if key not in told}}


def _objective(config: Config, stage: Stage, game: GameSpec, shard_list: Sequence[str]) -> Objective:
    if stage == "autoencoder":
        return autoencoder.objective(config, game, shard_list)
    if stage == "denoiser":
        return denoiser.objective(config, game, shard_list)
    if stage == "decoder":
        trained = Model.from_pretrained(f"{config.folder}/autoencoder").autoencoder
        return decoder.objective(config, game, shard_list, trained)
    teacher = Model.from_pretrained(f"{config.folder}/denoiser").denoiser
    return distill.objective(config, game, shard_list, teacher)


def _counted_worker(job: dict[str, Any]) -> None:
    """One worker, whose loss that is no number is counted: a person must know, although Ray tries again."""
    try:
        _worker(job)
    except FloatingPointError:
        monitor.TRAIN_NOT_FINITE.add(run=job["config"]["run"], stage=job["stage"])
        raise


def _worker(job: dict[str, Any]) -> None:
    """One worker of the data-parallel training; rank 0 logs, reports checkpoints and writes the model folder."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S", force=True)
    logging.getLogger("ray").setLevel(logging.WARNING)  # one line per worker and checkpoint, which says nothing new
    config, stage = configs.from_dict(job["config"]), job["stage"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    share = workers.sharing(config, world)
    device = ray.train.torch.get_device()
    if device.type == "cpu":  # Ray allows a worker one thread by default; the cores of this node are ours to share
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    else:  # matrices in TF32 where they are not bfloat16; the fastest kernels for shapes that stay the same
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    settings: StageConfig = getattr(config.train, stage)
    torch.manual_seed(config.seed)  # the first weights
    objective = _objective(config, stage, config.game_spec(), job["shards"])
    objective = workers.weighted(objective, rank, world, share)
    log = Log(config, stage) if rank == 0 else None
    weights = fit(
        objective,
        settings,
        device=device,
        precision=precision(config.train.precision, device),
        rank=rank % share,
        world=share,
        wrap=_parallel(config, stage) if world > 1 else lambda network: network,
        compiled=config.train.compile,
        state=_last_state(job),
        report=log.report if log else lambda progress: None,
        save=lambda step, get_state: _checkpoint(step, get_state() | {"signature": job["signature"]}, rank),
    )
    if rank == 0:
        figures = {"phase": "train", "stage": stage, "num_workers": world, **log.figures()}
        if _is_sharded(config, stage):  # what was trained is in parts
            objective = _objective(config, stage, config.game_spec(), job["shards"])
        _write_model(config, stage, objective.network, weights, job, figures)
    ray.train.report({"done": True})


def _is_sharded(config: Config, stage: Stage) -> bool:
    several = workers.count(config) != 1
    return config.train.sharded and several and stage not in _OF_FRAMES  # autoencoders are small


def _parallel(config: Config, stage: Stage) -> Callable[[nn.Module], nn.Module]:
    """Return what lets several workers train a network together."""
    if _is_sharded(config, stage):
        return states.shard
    unused = stage == "distill" and config.train.distill.matching_steps > 0  # one of two networks in every step
    return functools.partial(ray.train.torch.prepare_model, parallel_strategy_kwargs={"find_unused_parameters": unused})


def precision(setting: str, device: torch.device) -> torch.dtype | None:
    """Return autocast's type for a setting; "auto" takes bfloat16 where the hardware computes in it."""
    wants_bfloat16 = setting == "bf16" or (setting == "auto" and fastest(device) == torch.bfloat16)
    return torch.bfloat16 if wants_bfloat16 else None


def _last_state(job: dict[str, Any]) -> dict[str, Any] | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state = torch.load(Path(folder) / "state.pt", map_location="cpu", weights_only=True)
    _check_goes_on(state, job)
    return state


def _checkpoint(step: int, state: dict[str, Any], rank: int) -> None:
    """Report a checkpoint: a barrier that every worker passes, with the state that rank 0 has."""
    if rank:
        ray.train.report({"step": step})
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "state.pt")
        ray.train.report(
            {"step": step},
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_dir_name=f"step_{step:08d}",
        )


def _write_model(
    config: Config,
    stage: Stage,
    network: nn.Module,
    weights: dict[str, Tensor],
    job: dict[str, Any],
    figures: dict[str, Any],
) -> None:
    network.load_state_dict(weights)
    network.cpu().eval()
    settings = {**job["config"], "storage": "~/gamengen"}  # where the run lies plays no part, and is nobody's business
    provenance = {"config": settings, "signature": job["signature"], "figures": figures}
    provenance["licence"] = envs.licence(config.game.name)
    folder = f"{config.folder}/{FOLDERS[stage]}"
    if stage in _OF_FRAMES:
        if stage == "autoencoder":
            autoencoder.set_statistics(network.autoencoder, job["shards"])
        architecture = Architecture(config.autoencoder.name, config.autoencoder.options)
        Model(config.game_spec(), architecture, network.autoencoder, provenance=provenance).save_pretrained(folder)
        if stage == "decoder":
            _renew_decoders(config)
        return
    model = Model.from_pretrained(f"{config.folder}/autoencoder")
    starts = _starts(config, model.game)
    dataclasses.replace(
        model,
        denoiser_architecture=Architecture(config.denoiser.name, config.denoiser.options),
        denoiser=network.generator if stage == "distill" else network,
        context_length=config.denoiser.context_length,
        scheduler=denoiser.scheduler_settings(config, fast=stage == "distill"),
        start_frames=starts,
        start_actions=torch.zeros(starts.shape[:2], dtype=torch.long),
        provenance=provenance,
    ).save_pretrained(folder)
    _renew_decoders(config)


def _renew_decoders(config: Config) -> None:
    """Give the tuned decoder, where there is one, to the models whose latents it reads.

    Whether `decoder` or `denoiser` and `distill` were trained first, a model folder so holds the best decoder there is,
    and who plays it need not know where that came from.
    """
    if not storage.exists(f"{config.folder}/decoder/game.json"):
        return
    tuned = Model.from_pretrained(f"{config.folder}/decoder")
    for name in ("denoiser", "distilled"):
        folder = f"{config.folder}/{name}"
        if storage.exists(f"{folder}/game.json"):
            if decoder.same_encoder(tuned.autoencoder, Model.from_pretrained(folder).autoencoder):
                tuned.save_autoencoder(folder)
            else:
                logger.info("%s keeps its decoder: its latents are of another autoencoder than %s's.", name, "decoder")


def _starts(config: Config, game: GameSpec) -> Tensor:
    """Return the first frames of some recorded episodes, uint8 [N, 1, H, W, 3]: where a served game begins."""
    firsts = []
    for episode in shards.episodes(shards.find(f"{config.folder}/gameplay", game)):
        firsts.append(torch.tensor(episode.frames[:1]))
        if len(firsts) == NUM_STARTS:
            break
    return torch.stack(firsts)
