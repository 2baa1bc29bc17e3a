"""Measures one worker's share of the evaluation: a model, or the real game for comparison. Knows nothing of Ray."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gamengen import envs, storage
from gamengen.config import Config
from gamengen.data.shards import Episode
from gamengen.engine import GameEngine
from gamengen.envs import Probes
from gamengen.evaluate import following, held_out, inverse_dynamics, pixels, rollouts
from gamengen.evaluate.following import Following
from gamengen.evaluate.held_out import Start
from gamengen.evaluate.inverse_dynamics import InverseDynamics
from gamengen.evaluate.judges import Judges
from gamengen.game import GameSpec

logger = logging.getLogger(__name__)
MODELS = {"normal": "denoiser", "fast": "distilled"}  # mode -> the model's folder in the run
NUM_PICTURES = 6
_LATEST_AGE = 250  # frames after a start at which a rollout begins at the latest: the game gets faster


@dataclass
class ModelFigures:
    """What was measured of a model; `followed` and `rollouts` are None for a game without probes."""

    baselines: pixels.Baselines
    next_frame: pixels.NextFrame
    horizons: pixels.Horizons
    following: Following | None = None
    followed: dict[str, np.ndarray] | None = None
    rollouts: rollouts.Rollouts | None = None


@dataclass
class RealFigures:
    """The same of the real game; `references` are held-out frames, uint8 [K, visible H, W, 3]."""

    followed: dict[str, np.ndarray]
    rollouts: rollouts.Rollouts
    references: np.ndarray


@dataclass(frozen=True)
class Plan:
    """Which moments are used for what: drawn from the seed, the same for every mode and number of workers."""

    windows: list[Start]
    horizons: list[Start]
    free: list[Start]
    rollouts: list[Start]
    changes: list[Start]
    table_windows: list[Start]
    table_starts: list[Start]

    def share(self, rank: int, world: int) -> Plan:
        """Return every `world`-th moment, from `rank` on."""
        return Plan(*(getattr(self, name)[rank::world] for name in Plan.__dataclass_fields__))


def plan(config: Config, episodes: Sequence[Episode], probes: Probes | None) -> Plan:
    """Draw the held-out moments of an evaluation."""
    settings, seed = config.evaluate, config.seed
    is_free = _is_free(probes, config.game_spec()) if probes and probes.FOLLOWED_WITHIN else None
    free = held_out.draw_free(episodes, settings.num_action_starts, seed, is_free) if is_free else []
    rollout_starts = (
        held_out.draw(
            episodes, settings.num_rollouts, seed + 1, after=probes.QUIET_FRAMES, before_end=2, first=_LATEST_AGE
        )
        if probes
        else []
    )
    length, farthest = config.denoiser.context_length, max(settings.horizons)
    windows = held_out.draw(episodes, settings.num_windows, seed + 2, after=length)
    starts = held_out.draw(episodes, settings.num_horizon_starts, seed + 3, after=length, before_end=farthest)
    return Plan(
        windows=windows,
        horizons=starts,
        free=free,
        rollouts=_repeated(rollout_starts, settings.num_rollouts),
        changes=held_out.draw_changes(episodes, settings.num_action_starts, seed + 5, after=length + following.AHEAD),
        table_windows=windows[: settings.tables.num_windows],
        table_starts=starts[: settings.tables.num_starts],
    )


def measure_models(
    config: Config, modes: Sequence[str], work: Plan, judges: Judges, rank: int, world: int
) -> dict[str, ModelFigures]:
    """Measure a worker's share of every mode; baselines once for all that have the same autoencoder."""
    settings = config.evaluate
    probes: Probes | None = getattr(envs.load(config.game.name), "PROBES", None)
    network = inverse_dynamics.load(config)
    figures, known = {}, {}
    for mode in modes:
        folder = f"{config.folder}/{MODELS[mode]}"
        engine = GameEngine.from_pretrained(folder, device="cuda" if settings.use_gpu else "cpu")
        if not settings.use_gpu:
            _choose_threads(engine, max(1, (os.cpu_count() or 1) // world))
        code = hashlib.sha256(storage.read_bytes(f"{folder}/autoencoder/model.safetensors")).hexdigest()
        if code not in known:
            horizons, size = settings.horizons, settings.batch_size
            known[code] = pixels.baselines(engine, work.windows, work.horizons, horizons, judges, size)
        base = known[code]
        figures[mode] = measure_engine(config, engine, work, judges, base, network, probes, f"{mode} mode", rank, world)
    return figures


def measure_engine(
    config: Config,
    engine: Any,
    work: Plan,
    judges: Judges,
    baselines: pixels.Baselines,
    network: InverseDynamics | None,
    probes: Probes | None,
    name: str,
    rank: int = 0,
    world: int = 1,
) -> ModelFigures:
    """Measure an engine (or anything that plays like one) on the moments of a plan."""
    settings, size = config.evaluate, config.evaluate.batch_size
    num_pictures = 0 if rank else NUM_PICTURES
    next_frame = pixels.next_frame(engine, work.windows, judges, size, num_pictures, name=name)
    num_clips = 0 if rank else -(-settings.video_frames // max(settings.horizons))
    horizons = pixels.by_horizon(engine, work.horizons, settings.horizons, judges, size, num_clips, name=name)
    changes = following.measure(engine, work.changes, network, size) if network else None
    figures = ModelFigures(baselines, next_frame, horizons, changes)
    if probes is None:
        return figures
    followed = {
        action: pixels.followed(engine, work.free, action, probes, settings.batch_size)
        for action in probes.FOLLOWED_WITHIN
    }
    played = []
    for first in range(0, len(work.rollouts), settings.batch_size):
        starts = work.rollouts[first : first + settings.batch_size]
        seeds = _seeds(config, rank, world)[first : first + len(starts)]
        games = rollouts.GeneratedGames(engine, starts, seeds)
        film = rank == first == 0
        player = probes.player(seeds, engine.game)
        played.append(rollouts.play(games, player, settings.rollout_frames, name=name, keep_film=film))
    return dataclasses.replace(figures, followed=followed, rollouts=rollouts.merge(played) if played else None)


def measure_real(
    config: Config, episodes: Sequence[Episode], work: Plan, rank: int, world: int, num_references: int = 400
) -> RealFigures | None:
    """Measure a worker's share of the same in the real game, None for a game without probes or without rollouts."""
    probes: Probes | None = getattr(envs.load(config.game.name), "PROBES", None)
    settings, game, starts = config.evaluate, config.game_spec(), work.rollouts
    if probes is None or not starts:
        return None
    followed, is_free = {}, _is_free(probes, game)
    for action in probes.FOLLOWED_WITHIN:
        taken = held_out.draw_free(
            episodes, settings.num_action_starts, config.seed, is_free, next_action=game.action_index(action)
        )[rank::world]
        followed[action] = pixels.followed_in_recordings(taken, game, action, probes)
    seeds = _seeds(config, rank, world)
    options = {**config.game.options, **getattr(envs.load(config.game.name), "UNOBSERVED", {})}
    ages = [start.frame - 1 for start in starts]
    games = rollouts.RealGames(lambda: envs.make(config.game.name, **options), seeds, ages, probes)
    played = rollouts.play(games, probes.player(seeds, game), settings.rollout_frames, name="real game")
    games.close()
    frames = held_out.draw(episodes, num_references, config.seed + 4)
    return RealFigures(followed, played, game.visible(np.stack([start.future(1)[0] for start in frames])))


def _is_free(probes: Probes, game: GameSpec) -> Callable[[np.ndarray], np.ndarray]:
    """Return the probe for recorded frames, which have the padding."""
    return lambda frames: probes.is_free(game.visible(frames))


def _choose_threads(engine: GameEngine, most: int) -> None:
    """Take as many threads as pay off right now: on a machine that others use too, several wait for each other."""
    context = torch.zeros(1, engine.context_length, *engine.latent_shape)
    state = engine.begin_latents(context, torch.zeros(1, engine.context_length - 1), [0])
    seconds = {}
    for threads in sorted({1, most}):
        torch.set_num_threads(threads)
        times = []
        for _ in range(4):  # the first warms up
            begun = time.perf_counter()
            engine.step(state, [0])
            times.append(time.perf_counter() - begun)
        seconds[threads] = sorted(times[1:])[1]
    best = min(seconds, key=lambda threads: seconds[threads])
    torch.set_num_threads(best)
    logger.info("%d of %d threads: %.0f ms per frame", best, most, 1000 * seconds[best])


def _seeds(config: Config, rank: int, world: int) -> list[int]:
    """Return the seeds of a worker's rollouts, which are the same ones whoever plays them."""
    return [config.seed * 1_000_003 + number for number in range(config.evaluate.num_rollouts)][rank::world]


def _repeated(starts: list[Start], count: int) -> list[Start]:
    """Where held-out play has fewer moments than wanted, begin several games at each: their noise differs."""
    return [starts[index % len(starts)] for index in range(count)] if starts else []
