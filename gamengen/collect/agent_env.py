"""The env of an agent that learns: every frame recorded, actions held, episodes counted; knows no algorithm."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import ray
from ray.rllib.env.env_context import EnvContext

from gamengen import config as configs
from gamengen.collect import policies
from gamengen.collect.holding import hold
from gamengen.collect.recording import Origin, RecordingEnv
from gamengen.collect.writer import sink_to
from gamengen.envs import GameDied

logger = logging.getLogger(__name__)

PREFIX = "agent"  # of the episodes that an agent records while it learns, and of their shards
_MAX_DEATHS = 5  # of a game's process in a row; more are no accident


@dataclass(frozen=True)
class Episode:
    """What an agent earned in an episode: in all, by the terms of the game's reward, and in how many decisions."""

    score: float
    terms: dict[str, float]
    length: int


def make(context: EnvContext) -> gymnasium.Env:
    """Make the env of an RLlib runner: the run's game, recorded to the run's writer."""
    return around(policies.make_env(configs.from_dict(dict(context["config"]))), context)


def around(game: gymnasium.Env, context: EnvContext) -> gymnasium.Env:
    """Return what an RLlib runner plays a game in."""
    config = configs.from_dict(dict(context["config"]))
    origin = Origin(config.run, ray.util.get_node_ip_address(), context["agent_version"])
    name = f"{config.run}-{PREFIX}-{context.worker_index}-{context.vector_index}"
    seed = int(np.random.SeedSequence().entropy % 2**63)  # a restarted or resumed runner plays other episodes
    sink = sink_to(context["writer"])
    share = config.agent.recorded_share
    recorded = RecordingEnv(game, config.collect, origin, sink, name, seed, share)
    held = hold(OutlivesGame(recorded), config.collect.repeat_probability, seed)
    return LearnersEnv(held, config.agent.reward_scale)


class OutlivesGame(gymnasium.Wrapper):
    """Ends (truncates) an episode in which the game's process dies, and begins the next with a new process.

    `info` says so by `died`: such an episode is neither recorded nor counted.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._last: Any = None
        self._deaths = 0  # since a step went well

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        while True:
            try:
                self._last, info = self.env.reset(seed=seed, options=options)
                return self._last, info
            except GameDied as error:
                self._count(error)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:
            self._last, reward, terminated, truncated, info = self.env.step(action)
        except GameDied as error:
            self._count(error)
            return self._last, 0.0, False, True, {"died": True}
        self._deaths = 0
        return self._last, float(reward), terminated, truncated, info

    def _count(self, error: GameDied) -> None:
        self._deaths += 1
        if self._deaths == _MAX_DEATHS:
            raise error
        logger.warning("an episode of the agent is lost: %s", error)


class LearnersEnv(gymnasium.Wrapper):
    """Scales the reward for who learns from it, and remembers what the episodes earned before that.

    `info` ends here: nobody learns from it, and RLlib would take it apart and keep it, step by step.
    """

    def __init__(self, env: gymnasium.Env, reward_scale: float) -> None:
        super().__init__(env)
        self._scale = reward_scale
        self._finished: list[Episode] = []
        self._begin()

    def _begin(self) -> None:
        self._score, self._length = 0.0, 0
        self._terms: dict[str, float] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._begin()
        return self.env.reset(seed=None, options=options)[0], {}  # RLlib's seed is the same after every restart

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._score += float(reward)
        self._length += 1
        for name, value in info.get("reward_terms", {}).items():
            self._terms[name] = self._terms.get(name, 0.0) + float(value)
        if (terminated or truncated) and not info.get("died"):
            self._finished.append(Episode(self._score, self._terms, self._length))
        return observation, float(reward) * self._scale, terminated, truncated, {}

    def take_finished(self) -> list[Episode]:
        """Return the episodes that have ended since this was last called."""
        finished, self._finished = self._finished, []
        return finished
