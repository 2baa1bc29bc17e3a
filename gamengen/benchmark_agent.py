"""Measures where the time of an agent's training goes: game, recorder, policy, learner, and what is left."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import gymnasium
import ray
from ray.rllib.env.env_context import EnvContext

from gamengen import config as configs
from gamengen import ray_cluster
from gamengen.benchmark_rates import SECONDS
from gamengen.collect import agent as agents
from gamengen.collect import agent_env, policies
from gamengen.collect.writer import start_writer
from gamengen.config import Config

_WRITER = "gamengen-writer-benchmark"
_P, _R = ParamSpec("_P"), TypeVar("_R")


def agent(config: Config) -> dict[str, Any]:
    """Train the run's agent for a while in this process, every frame recorded, on an untrained network.

    All games and the learner take turns here, as they do for `agent.num_runners=0`, so that shares of wall time add up.
    """
    is_local = ray_cluster.connect()
    try:
        with tempfile.TemporaryDirectory(prefix="gamengen-benchmark-") as scratch:
            settings = dataclasses.replace(config.agent, num_runners=0, recorded_share=1.0)
            return _measure(dataclasses.replace(config, agent=settings, storage=scratch))
    finally:
        if is_local:
            ray.shutdown()


def _measure(config: Config) -> dict[str, Any]:
    writer = start_writer(_WRITER, f"{config.folder}/gameplay", agent_env.PREFIX, config.collect.shard_bytes)
    algorithm = agents.build(config, _WRITER, _make_timed)
    watch = _Watch()
    watches = [watch, *(env.get_wrapper_attr("watch") for env in algorithm.env_runner.env.unwrapped.envs)]
    try:
        module, learners = algorithm.env_runner.module, algorithm.learner_group
        module.forward_exploration = watch.timed("policy", module.forward_exploration)
        learners.update = watch.timed("learner", learners.update)
        agents.iterate(config, algorithm, 0, "benchmark")  # the first, slow one
        for each in watches:
            each.seconds.clear()
        iterate = watch.timed("all", agents.iterate)
        decisions = 0
        while watch.seconds["all"] < SECONDS:
            result = iterate(config, algorithm, 0, "benchmark")
            decisions += int(result["env_runners"]["num_env_steps_sampled"])
    finally:
        algorithm.stop()
        ray.kill(writer)
    seconds = sum((each.seconds for each in watches), Counter())
    return _shares(seconds) | {"agent_decisions_per_second": round(decisions / seconds["all"], 1)}


def _make_timed(context: EnvContext) -> gymnasium.Env:
    """Make a runner's env with a watch of its own: RLlib makes it from a copy of this function."""
    watch = _Watch()
    game = _Timed(policies.make_env(configs.from_dict(dict(context["config"]))), watch, "game")
    return _Timed(agent_env.around(game, context), watch, "env")


def _shares(seconds: Counter[str]) -> dict[str, Any]:
    parts = {name: seconds[name] for name in ("game", "policy", "learner")}
    parts["recorder"] = seconds["env"] - seconds["game"]
    parts["rest"] = seconds["all"] - sum(parts.values())
    return {"agent_time_shares": {name: round(part / seconds["all"], 3) for name, part in parts.items()}}


class _Watch:
    """Counts seconds by names."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def timed(self, name: str, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return the function, whose calls count from now on."""

        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - begun  # type: ignore[assignment]

        return call


class _Timed(gymnasium.Wrapper):
    """Counts the time in an env and in what it wraps."""

    def __init__(self, env: gymnasium.Env, watch: _Watch, name: str) -> None:
        super().__init__(env)
        self.watch = watch
        self.reset = watch.timed(name, env.reset)  # type: ignore[method-assign]
        self.step = watch.timed(name, env.step)  # type: ignore[method-assign]
        self._render = watch.timed(name, env.render)
        if env.has_wrapper_attr("view_frame"):
            self.view_frame = watch.timed(name, env.get_wrapper_attr("view_frame"))

    def render(self) -> Any:
        return self._render()
