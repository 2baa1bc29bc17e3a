"""Measures recording beside the game alone: the raw engine where the game has one, the env, and the env recorded.

All on one core, in frames per second of CPU time: a game in a process of its own counts with its process.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pyarrow.parquet as pq

from gamengen import envs
from gamengen.benchmark_rates import core_seconds, in_turns, rate
from gamengen.collect import policies
from gamengen.collect.recording import Origin
from gamengen.collect.rollouts import play_item
from gamengen.collect.writer import PARQUET
from gamengen.config import Config

_LONGEST_ITEM = 1024  # frames: a measurement is of a few items


def recording(config: Config) -> dict[str, Any]:
    """Play the game at its full size, bare and recorded, as the run's first policy that needs no agent does."""
    full_size = {key: value for key, value in config.game.options.items() if key != "downscale"}
    config = dataclasses.replace(config, game=dataclasses.replace(config.game, options=full_size))
    env = policies.make_env(config)
    spec = env.unwrapped.game_spec  # type: ignore[attr-defined]
    name = next((name for name in config.collect.policies if not name.startswith("agent")), "random")
    policy = policies.make(name, config, spec)
    loops: dict[str, Callable[[], Iterator[int]]] = {
        "env_fps": lambda: _bare(env, policy),
        "collect_fps": lambda: _recorded(env, policy, config),
    }
    game = envs.load(config.game.name)
    if hasattr(game, "bare"):
        engine = game.bare(**full_size)  # one process for all turns
        loops = {"raw_fps": lambda: engine, **loops}
    rates = in_turns({key: lambda loop=loop: rate(loop(), core_seconds) for key, loop in loops.items()})
    env.close()
    ratios = {
        f"collect_over_{other}": round(rates["collect_fps"] / rates[f"{other}_fps"], 3)
        for other in ("raw", "env")
        if f"{other}_fps" in rates
    }
    return rates | ratios | {"env_frame": [spec.height, spec.width], "env_policy": name, "codec": config.collect.codec}


def _bare(env: gymnasium.Env, policy: policies.Policy) -> Iterator[int]:
    """Step and render; one per frame."""
    for seed in itertools.count():
        observation, info = env.reset(seed=seed)
        policy.reset(np.random.default_rng(seed))
        env.render()
        ended = False
        while not ended:
            observation, _, terminated, truncated, info = env.step(policy.action(observation, info))
            env.render()
            ended = terminated or truncated
            yield 1


def _recorded(env: gymnasium.Env, policy: policies.Policy, config: Config) -> Iterator[int]:
    """Play items into Parquet, as a player of `jobs.collect` does; yields the frames of each."""
    longest = min(config.collect.max_episode_frames, _LONGEST_ITEM)
    settings = dataclasses.replace(config.collect, max_episode_frames=longest)
    for seed in itertools.count():
        rows = play_item(env, policy, settings, Origin(config.run, "here", policy.version), seed)
        with io.BytesIO() as file:
            pq.write_table(rows, file, **PARQUET)
        yield sum(rows["num_frames"].to_pylist())
