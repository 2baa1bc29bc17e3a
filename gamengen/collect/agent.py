"""Trains the agent and records all of it: the loop, checkpoints, evaluation; knows no algorithm.

An algorithm is a module beside this one with

* `Options`: a frozen dataclass, the settings that `agent.options` must have;
* `build(agent, options) -> AlgorithmConfig`: what of RLlib's config is its own;
* `before_iteration(options, episodes) -> Callable[[runner], None]`: what every runner does before an iteration;
* `statistics(options, episodes, result) -> dict`: its own figures of an iteration, out of RLlib's result;
* `network(algorithm) -> Network`: a copy of what it has learnt, to be saved and played with (see `networks`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import register_env

from gamengen import config as configs
from gamengen import envs, monitor, placement, ray_cluster, storage
from gamengen.collect import agent_env, dqn, learning, networks, policies, ppo
from gamengen.collect.agent_env import PREFIX
from gamengen.collect.holding import frames_per_decision
from gamengen.collect.playing import scores
from gamengen.collect.writer import own_shards, sink_to, start_writer
from gamengen.config import Config
from gamengen.data import codec as codecs
from gamengen.data import shards

logger = logging.getLogger(__name__)

_ALGORITHMS: dict[str, ModuleType] = {"dqn": dqn, "ppo": ppo}
_ENV = "gamengen-agent"


@dataclass
class AgentState:
    """What `agent.json` says: how far the training is, and which checkpoint belongs to it."""

    algorithm: str
    checkpoint: str = ""
    agent_version: str = ""
    iterations: int = 0
    episodes: int = 0
    env_steps: int = 0
    seconds: float = 0.0  # of training
    kept: list[dict[str, Any]] = field(default_factory=list)  # policies of its past, see policies.kept_version
    mean_score: float | None = None  # of the trained agent and of random play, set at the end; with standard errors
    mean_score_error: float | None = None
    random_score: float | None = None
    random_score_error: float | None = None


def train_agent(config: Config) -> dict[str, Any]:
    """Train the agent, record every episode that it plays into `gameplay/`, and measure how well it plays at last."""
    check(config)
    state = _read_state(config)
    resumed = bool(state.iterations)
    nothing_left = _is_finished(config, state) and state.mean_score is not None
    steps = state.env_steps
    started = time.monotonic()
    if nothing_left:
        logger.info("nothing left to do: the agent has played %d episodes", state.episodes)
    else:
        ray_cluster.connect()
        if not _is_finished(config, state):
            _train(config, state)
        _evaluate(config, state)
        _write_state(config, state)
        _draw(config, state)
    seconds = time.monotonic() - started
    return {
        "phase": "train_agent",
        "run": config.run,
        **{key: value for key, value in asdict(state).items() if key != "seconds"},
        **_recorded(config),
        "env_steps_per_second": round((state.env_steps - steps) / seconds, 1),
        "seconds": round(seconds, 1),
        "resumed": resumed,
        "nothing_left": nothing_left,
        "where": f"{config.folder}/agent",
    }


def check(config: Config) -> None:
    """Raise a ValueError for a game that nobody can play, or for settings that cannot be."""
    envs.require_playable(config.game.name)
    _options(config)
    codecs.encoder(config.collect.codec, config.game_spec().frames_per_second)  # runners would try it for hours
    if not 0 <= config.agent.recorded_share <= 1:
        raise ValueError(f"agent.recorded_share, got {config.agent.recorded_share}; expected a share from 0 to 1.")


def _options(config: Config) -> Any:
    """Return the algorithm's own settings, checked."""
    options = _ALGORITHMS[config.agent.algorithm].Options
    return configs.build(options, dict(config.agent.options), "agent.options")


def _train(config: Config, state: AgentState) -> None:
    if config.agent.observation == "state":
        torch.set_num_threads(1)  # threads cost a network this small far more than they give
    writer_name = f"gamengen-writer-{config.run}"
    writer = start_writer(writer_name, f"{config.folder}/gameplay", PREFIX, config.collect.shard_bytes)
    algorithm = build(config, writer_name)
    if state.iterations:
        files, path = storage.filesystem(f"{config.folder}/agent/{state.checkpoint}/rllib")
        algorithm.restore_from_path(path, filesystem=files)
        logger.info("resumed after %d episodes, %d steps", state.episodes, state.env_steps)
    try:
        _learn(config, state, algorithm)
    finally:
        algorithm.stop()
        ray.get(writer.flush.remote())
        ray.kill(writer)


def build(config: Config, writer_name: str, make: Callable[[EnvContext], gymnasium.Env] = agent_env.make) -> Algorithm:
    """Build the algorithm with what all of them have in common; `make` makes the env of a runner."""
    agent = config.agent
    register_env(_ENV, make)
    env_config = {"config": configs.to_dict(config), "writer": writer_name, "agent_version": agent.algorithm}
    return (
        _ALGORITHMS[agent.algorithm]
        .build(agent, _options(config))
        .environment(_ENV, env_config=env_config, disable_env_checking=True)
        .env_runners(
            num_env_runners=agent.num_runners,
            num_envs_per_env_runner=agent.num_envs_per_runner,
            gym_env_vectorize_mode="sync",
            rollout_fragment_length=agent.rollout_steps,
            sample_timeout_s=300,
            num_cpus_per_env_runner=1,
            custom_resources_per_env_runner=placement.mark(placement.ROLLOUT),
        )
        .fault_tolerance(restart_failed_env_runners=True)
        .learners(num_learners=0)
        .training(lr=agent.learning_rate, gamma=agent.gamma)
        .debugging(seed=config.seed, log_level="ERROR")
        .build_algo()
    )


def _learn(config: Config, state: AgentState, algorithm: Algorithm) -> None:
    """Run iterations until the agent has played enough; checkpoints on the way and at the end."""
    agent, method, options = config.agent, _ALGORITHMS[config.agent.algorithm], _options(config)
    curve = learning.LearningCurve(f"{config.folder}/agent", state.env_steps)
    progress = learning.Progress(state.env_steps, state.episodes, agent.max_env_steps, agent.num_episodes)
    while not _is_finished(config, state):
        started = time.monotonic()
        result = iterate(config, algorithm, state.episodes, _version(config, state))
        finished = algorithm.env_runner_group.foreach_env_runner(_take_finished)
        runners = result.get("env_runners", {})  # not there where all of them were lost
        state.iterations += 1
        state.episodes += int(runners.get("num_episodes", 0))
        state.env_steps += int(runners.get("num_env_steps_sampled", 0))
        state.seconds += time.monotonic() - started
        episodes = [episode for runner in finished for episode in runner]
        curve.add(state.env_steps, state.seconds, episodes, method.statistics(options, state.episodes, result))
        progress.log(state.env_steps, state.episodes, curve)
        monitor.AGENT_ENV_STEPS.set(state.env_steps, run=config.run)
        monitor.AGENT_SCORE.set(curve.recent_score, run=config.run)
        if state.iterations % agent.checkpoint_every == 0 or _is_to_keep(config, state):
            _checkpoint(config, state, algorithm, curve)
    _checkpoint(config, state, algorithm, curve)


def iterate(config: Config, algorithm: Algorithm, episodes: int, version: str) -> dict[str, Any]:
    """Play and learn once, after so many episodes; returns RLlib's result."""
    method = _ALGORITHMS[config.agent.algorithm]
    _prepare_runners(algorithm, version, method.before_iteration(_options(config), episodes))
    return algorithm.train()


def _version(config: Config, state: AgentState) -> str:
    return f"{config.agent.algorithm}-{state.env_steps}"


def _prepare_runners(algorithm: Algorithm, version: str, before_iteration: Callable[[Any], None]) -> None:
    """Tell all runners, also one that was restarted, which version of the agent they are and what else there is."""

    def prepare(runner: Any) -> None:
        before_iteration(runner)
        for env in _envs(runner):
            env.get_wrapper_attr("name_agent")(version)

    algorithm.env_runner_group.foreach_env_runner(prepare)


def _take_finished(runner: Any) -> list[agent_env.Episode]:
    return [episode for env in _envs(runner) for episode in env.get_wrapper_attr("take_finished")()]


def _envs(runner: Any) -> list[Any]:
    return runner.env.unwrapped.envs if runner.env else []  # beside remote runners, the local one has no env


def _progress(config: Config, episodes: int, env_steps: int) -> float:
    """Return the share of the training that is done, up to 1."""
    return min(max(episodes / config.agent.num_episodes, env_steps / config.agent.max_env_steps), 1.0)


def _is_finished(config: Config, state: AgentState) -> bool:
    return _progress(config, state.episodes, state.env_steps) >= 1


def _is_to_keep(config: Config, state: AgentState) -> bool:
    """Whether the agent has come to the next of the points, evenly over its training, at which its policy is kept."""
    last = state.kept[-1] if state.kept else {"episodes": 0, "env_steps": 0}
    now, before = (
        int(config.agent.keep_checkpoints * _progress(config, *place))
        for place in ((state.episodes, state.env_steps), (last["episodes"], last["env_steps"]))
    )
    return now > before


def _read_state(config: Config) -> AgentState:
    try:
        state = AgentState(**storage.read_json(f"{config.folder}/agent/agent.json"))
    except FileNotFoundError:
        return AgentState(config.agent.algorithm)
    if state.algorithm != config.agent.algorithm:
        raise ValueError(
            f"agent.algorithm, got {config.agent.algorithm}; expected {state.algorithm}, with which the agent in "
            f"{config.folder}/agent was begun. Give this run another name."
        )
    return state


def _write_state(config: Config, state: AgentState) -> None:
    storage.write_json(f"{config.folder}/agent/agent.json", asdict(state))


def _checkpoint(config: Config, state: AgentState, algorithm: Algorithm, curve: learning.LearningCurve) -> None:
    """Save everything under a new name, then point `agent.json` at it, then delete what it pointed at before."""
    algorithm.env_runner_group.foreach_env_runner(_flush_recordings)
    previous = state.checkpoint
    name = f"checkpoint-{state.iterations:06d}"
    if name == previous:
        return
    folder = f"{config.folder}/agent/{name}"
    files, path = storage.filesystem(folder)
    files.create_dir(f"{path}/rllib", recursive=True)
    algorithm.save_to_path(f"{path}/rllib", filesystem=files)
    network, version = _ALGORITHMS[config.agent.algorithm].network(algorithm), _version(config, state)
    networks.save(f"{folder}/policy.safetensors", network)
    if _is_to_keep(config, state):
        networks.save(policies.kept_policy(f"{config.folder}/agent", version), network)
        state.kept.append({"agent_version": version, "env_steps": state.env_steps, "episodes": state.episodes})
    state.checkpoint, state.agent_version = name, version
    state.mean_score = state.random_score = None
    curve.save()
    _write_state(config, state)
    if previous:
        files.delete_dir(f"{path.rpartition('/')[0]}/{previous}")
    _draw(config, state)


def _draw(config: Config, state: AgentState) -> None:
    """Draw the learning curve, and what was measured at its end where that is known."""
    measured = {
        "trained": (state.mean_score, state.mean_score_error),
        "random play": (state.random_score, state.random_score_error),
    }
    points = learning.noted(f"{config.folder}/agent")
    title = f"{config.run}: {config.agent.algorithm}, {state.env_steps:,} decisions, {state.seconds / 60:.0f} minutes"
    drawn = learning.picture(points, title, {name: pair for name, pair in measured.items() if pair[0] is not None})
    storage.write_bytes(f"{config.folder}/agent/learning.png", drawn)


def _flush_recordings(runner: Any) -> None:
    sink_to(runner.config.env_config["writer"]).flush()


def _evaluate(config: Config, state: AgentState) -> None:
    """Measure the mean score (sum of rewards) of the agent, and of random play to compare, with standard errors."""
    env = policies.make_env(config)
    game = env.unwrapped.game_spec  # type: ignore[attr-defined]
    players = (policies.AgentPolicy.load(config), policies.RandomPolicy(game, frames_per_decision(env)))
    num_episodes, max_frames = config.agent.evaluation_episodes, config.collect.max_episode_frames
    (state.mean_score, state.mean_score_error), (state.random_score, state.random_score_error) = (
        _mean_and_error(scores(env, player, num_episodes, max_frames, config.seed)) for player in players
    )
    env.close()
    logger.info("mean score %.1f, random play %.1f", state.mean_score, state.random_score)


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return round(float(values.mean()), 2), round(float(error), 2)


def _recorded(config: Config) -> dict[str, int]:
    frames = episodes = size = 0
    for shard in own_shards(f"{config.folder}/gameplay", PREFIX):
        table = shards.read(shard, ["chunk", "num_frames"])
        frames += sum(table["num_frames"].to_pylist())
        episodes += table["chunk"].to_pylist().count(0)
        files, path = storage.filesystem(shard)
        size += files.get_file_info(path).size
    return {"recorded_frames": frames, "recorded_episodes": episodes, "recorded_bytes": size}
