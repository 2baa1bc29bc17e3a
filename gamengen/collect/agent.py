"""Trains the agent and records all of it: the loop, checkpoints, evaluation; each algorithm is in its own file."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.fs
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import register_env
from torch.utils.tensorboard import SummaryWriter

from gamengen import config as configs
from gamengen import envs, ray_cluster, storage
from gamengen.collect import dqn, networks, policies
from gamengen.collect.recording import Origin, RecordingEnv
from gamengen.collect.writer import own_shards, sink_to, start_writer
from gamengen.config import Config
from gamengen.data import shards

logger = logging.getLogger(__name__)

PREFIX = "agent"
_ALGORITHMS = {"dqn": dqn}
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
    seconds: float = 0.0
    mean_score: float | None = None  # of the greedy policy, set at the end
    random_score: float | None = None


def train_agent(config: Config) -> dict[str, Any]:
    """Train the agent, record every episode that it plays into `gameplay/`, and measure how well it plays at last."""
    envs.require_playable(config.game.name)
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


def make_recorded_env(context: EnvContext) -> RecordingEnv:
    """Make the env of an RLlib runner: the run's game, recorded to the run's writer."""
    config = configs.from_dict(dict(context["config"]))
    origin = Origin(config.run, ray.util.get_node_ip_address(), context["agent_version"])
    name = f"{config.run}-{PREFIX}-{context.worker_index}-{context.vector_index}"
    seed = int(np.random.SeedSequence().entropy % 2**63)  # a restarted or resumed runner plays other episodes
    sink = sink_to(context["writer"])
    return RecordingEnv(policies.make_env(config), config.collect, origin, sink, name, seed)


def _train(config: Config, state: AgentState) -> None:
    if config.agent.observation == "state":
        torch.set_num_threads(1)  # threads cost a network this small far more than they give
    writer_name = f"gamengen-writer-{config.run}"
    writer = start_writer(writer_name, f"{config.folder}/gameplay", PREFIX, config.collect.shard_bytes)
    register_env(_ENV, make_recorded_env)
    method = _ALGORITHMS[config.agent.algorithm]
    env_config = {"config": configs.to_dict(config), "writer": writer_name, "agent_version": config.agent.algorithm}
    algorithm = method.build(config, _ENV).environment(env_config=env_config).build_algo()
    if state.iterations:
        files, path = storage.filesystem(f"{config.folder}/agent/{state.checkpoint}/rllib")
        algorithm.restore_from_path(path, filesystem=files)
        logger.info("resumed after %d episodes, %d steps", state.episodes, state.env_steps)
    try:
        _iterate(config, state, algorithm)
    finally:
        algorithm.stop()
        ray.get(writer.flush.remote())
        ray.kill(writer)


def _iterate(config: Config, state: AgentState, algorithm: Algorithm) -> None:
    """Run iterations until the agent has played enough; checkpoints on the way and at the end."""
    log = _Log(config, state)
    while not _is_finished(config, state):
        _prepare_runners(config, state, algorithm)
        result = algorithm.train()
        runners = result["env_runners"]
        state.iterations += 1
        state.episodes += int(runners.get("num_episodes", 0))
        state.env_steps += int(runners.get("num_env_steps_sampled", 0))
        log.iteration(state, result)
        if state.iterations % config.agent.checkpoint_every == 0:
            _checkpoint(config, state, algorithm)
    _checkpoint(config, state, algorithm)


def _prepare_runners(config: Config, state: AgentState, algorithm: Algorithm) -> None:
    """Tell all runners, also one that was restarted, how much to explore and which version of the agent they are."""
    epsilon, version = _epsilon(config, state), f"{config.agent.algorithm}-{state.env_steps}"

    def prepare(runner: Any) -> None:
        runner.module.set_epsilon(epsilon)
        for env in runner.env.unwrapped.envs if runner.env else []:  # beside remote runners, the local one has no env
            env.get_wrapper_attr("name_agent")(version)

    algorithm.env_runner_group.foreach_env_runner(prepare)


def _epsilon(config: Config, state: AgentState) -> float:
    agent = config.agent
    return max(agent.epsilon_final, agent.epsilon_initial * agent.epsilon_decay**state.episodes)


def _is_finished(config: Config, state: AgentState) -> bool:
    return state.episodes >= config.agent.num_episodes or state.env_steps >= config.agent.max_env_steps


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


def _checkpoint(config: Config, state: AgentState, algorithm: Algorithm) -> None:
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
    network = _ALGORITHMS[config.agent.algorithm].network(algorithm)
    networks.save(f"{folder}/policy.safetensors", network)
    state.checkpoint, state.agent_version = name, f"{config.agent.algorithm}-{state.env_steps}"
    state.mean_score = state.random_score = None
    _write_state(config, state)
    if previous:
        files.delete_dir(f"{path.rpartition('/')[0]}/{previous}")


def _flush_recordings(runner: Any) -> None:
    sink_to(runner.config.env_config["writer"]).flush()


def _evaluate(config: Config, state: AgentState) -> None:
    """Measure the mean score (sum of rewards) of the greedy agent, and of random play to compare."""
    env = policies.make_env(config)
    game = env.unwrapped.game_spec  # type: ignore[attr-defined]
    agent = policies.AgentPolicy.load(config)
    state.mean_score = _mean_score(config, env, agent)
    state.random_score = _mean_score(config, env, policies.RandomPolicy(game))
    env.close()
    logger.info("mean score %.1f, random play %.1f", state.mean_score, state.random_score)


def _mean_score(config: Config, env: Any, policy: policies.Policy) -> float:
    scores = []
    for episode in range(config.agent.evaluation_episodes):
        observation, info = env.reset(seed=1_000_000 + episode)  # the same games for everyone
        policy.reset(np.random.default_rng([config.seed, episode]))
        score, frames, ended = 0.0, 1, False
        while not ended and frames < config.collect.max_episode_frames:
            observation, reward, terminated, truncated, info = env.step(policy.action(observation, info))
            score, frames, ended = score + float(reward), frames + 1, terminated or truncated
        scores.append(score)
    return round(float(np.mean(scores)), 2)


def _recorded(config: Config) -> dict[str, int]:
    frames = episodes = size = 0
    for shard in own_shards(f"{config.folder}/gameplay", PREFIX):
        table = shards.read(shard, ["chunk", "num_frames"])
        frames += sum(table["num_frames"].to_pylist())
        episodes += table["chunk"].to_pylist().count(0)
        files, path = storage.filesystem(shard)
        size += files.get_file_info(path).size
    return {"recorded_frames": frames, "recorded_episodes": episodes, "recorded_bytes": size}


class _Log:
    """One line every ten seconds, and TensorBoard where the run is on this machine's file system."""

    def __init__(self, config: Config, state: AgentState) -> None:
        files, path = storage.filesystem(f"{config.folder}/agent/tensorboard")
        is_local = isinstance(files, pyarrow.fs.LocalFileSystem)
        self._board = SummaryWriter(path, purge_step=state.env_steps) if is_local else None
        self._config = config
        self._begun, self._first_steps, self._first_episodes = time.monotonic(), state.env_steps, state.episodes
        self._last = 0.0

    def iteration(self, state: AgentState, result: dict[str, Any]) -> None:
        """Log the result of one iteration."""
        agent, score = self._config.agent, float(result["env_runners"].get("episode_return_mean", float("nan")))
        if self._board is not None:
            values = {"score": score, "epsilon": _epsilon(self._config, state), "episodes": state.episodes}
            for name, value in values.items():
                self._board.add_scalar(f"agent/{name}", value, state.env_steps)
        now = time.monotonic()
        if now - self._last < 10:
            return
        self._last = now
        seconds = now - self._begun
        steps, episodes = state.env_steps - self._first_steps, max(state.episodes - self._first_episodes, 1)
        rate = steps / seconds
        left = (agent.max_env_steps - state.env_steps) / rate
        left = min(left, (agent.num_episodes - state.episodes) * seconds / episodes)
        logger.info(
            "%d of %d episodes, %d steps, %.0f steps/s, mean score %.1f, epsilon %.2f, %.0f s left",
            *(state.episodes, agent.num_episodes, state.env_steps, rate, score, _epsilon(self._config, state)),
            max(left, 0),
        )
