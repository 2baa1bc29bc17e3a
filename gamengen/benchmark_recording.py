"""Measures recording beside the game alone: the raw engine where the game has one, the env, and the env recorded.

All play the same frames on one core, and rates are frames per second of CPU time: a game in a process of its own counts
with its process.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Iterator, Sequence
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

_NUM_ITEMS = 2
_LONGEST_ITEM = 512  # frames; a measurement is of whole rounds over all items, since no two scenes cost the same

Plays = Sequence[tuple[int, list[int]]]  # the seed and the actions of each episode


def recording(config: Config) -> dict[str, Any]:
    """Play the game at its full size, raw, bare and recorded, as the run's first policy that needs no agent does."""
    full_size = {key: value for key, value in config.game.options.items() if key != "downscale"}
    longest = min(config.collect.max_episode_frames, _LONGEST_ITEM)
    settings = dataclasses.replace(config.collect, max_episode_frames=longest)
    config = dataclasses.replace(config, game=dataclasses.replace(config.game, options=full_size), collect=settings)
    name = next((name for name in settings.policies if not name.startswith("agent")), "random")
    spec = config.game_spec()
    policy = policies.make(name, config, spec)
    env = _Noting(policies.make_env(config, policy.observes))
    for item in range(_NUM_ITEMS):
        play_item(env, policy, settings, Origin(config.run, "here", name), item)
    loops: dict[str, Iterator[int]] = {
        "env_fps": _bare(env.env, policy, env.plays),
        "collect_fps": _recorded(env.env, policy, config),
    }
    game = envs.load(config.game.name)
    if hasattr(game, "play_raw"):
        loops = {"raw_fps": _raw(game.play_raw(itertools.cycle(env.plays), **full_size), env.plays), **loops}
    rates = in_turns({key: lambda loop=loop: rate(loop, core_seconds) for key, loop in loops.items()})
    env.close()
    ratios = {
        f"collect_over_{other}": round(rates["collect_fps"] / rates[f"{other}_fps"], 3)
        for other in ("raw", "env")
        if f"{other}_fps" in rates
    }
    return rates | ratios | {"env_frame": [spec.height, spec.width], "env_policy": name, "codec": settings.codec}


class _Noting(gymnasium.Wrapper):
    """Notes what is played, to play it again."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.plays: list[tuple[int, list[int]]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None, "an item's episodes are seeded"
        self.plays.append((seed, []))
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.plays[-1][1].append(int(action))
        return self.env.step(action)


def _raw(frames: Iterator[np.ndarray], plays: Plays) -> Iterator[int]:
    """Play all that was noted, over and over, with the game's own engine; yields the frames of each round."""
    count = sum(len(actions) for _, actions in plays)
    while True:
        yield sum(1 for _ in itertools.islice(frames, count))


def _bare(env: gymnasium.Env, policy: policies.Policy, plays: Plays) -> Iterator[int]:
    """Reset, step and render, with the policy asked but not followed; yields the frames of each round."""
    while True:
        for seed, actions in plays:
            observation, info = env.reset(seed=seed)
            policy.reset(np.random.default_rng(seed))
            env.render()
            for action in actions:
                policy.action(observation, info)
                observation, _, _, _, info = env.step(action)
                env.render()
        yield sum(len(actions) for _, actions in plays)


def _recorded(env: gymnasium.Env, policy: policies.Policy, config: Config) -> Iterator[int]:
    """Play the items into Parquet, as a player of `jobs.collect` does; yields the frames of each round."""
    while True:
        count = 0
        for item in range(_NUM_ITEMS):
            rows = play_item(env, policy, config.collect, Origin(config.run, "here", policy.version), item)
            with io.BytesIO() as file:
                pq.write_table(rows, file, **PARQUET)
            count += sum(map(len, rows["actions"].to_pylist()))
        yield count
