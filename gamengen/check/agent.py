"""The part `agent`: a run's agent plays and learns on RLlib, for a moment, by the job of a real training."""

from __future__ import annotations

from typing import Any

import safetensors.torch
import torch

from gamengen import config as configs
from gamengen import storage
from gamengen.collect.agent import train_agent
from gamengen.config import Config

_MAX_EPISODE_FRAMES = 50
# What makes the training of an agent long, wherever in `agent` it stands, and what it is here.
_SMALL_AGENT = {
    "num_episodes": 10**9,
    "rollout_steps": 32,
    "num_runners": 0,
    "num_envs_per_runner": 2,
    "evaluation_episodes": 1,
    "replay_capacity": 4000,
    "learning_starts": 100,
    "steps_per_update": 128,
    "num_epochs": 1,
}


def learn(config: Config) -> str:
    """Let the run's agent play, learn and be saved; then again from what was saved, which must differ afterwards."""
    tree, threads = configs.to_dict(config), torch.get_num_threads()
    tree["run"] += "-check"  # the names of the run's own actors, if it is being trained now, stay its own
    agent = _smaller(tree["agent"])
    tree["collect"]["max_episode_frames"] = _MAX_EPISODE_FRAMES
    steps, weights = 0, []
    try:
        for _ in range(2):
            tree["agent"] = {**agent, "max_env_steps": steps + 1}  # one more iteration, however long it is
            summary = train_agent(configs.from_dict(tree))
            steps = summary["env_steps"]
            data = storage.read_bytes(f"{summary['where']}/{summary['checkpoint']}/policy.safetensors")
            weights.append(safetensors.torch.load(data))
    finally:
        torch.set_num_threads(threads)
    before, after = weights
    if not all(bool(weight.isfinite().all()) for weight in after.values()):
        raise ValueError(f"the {config.agent.algorithm} agent's network is not finite after {steps} steps.")
    if all(torch.equal(before[name], weight) for name, weight in after.items()):
        raise ValueError(f"the {config.agent.algorithm} agent learns nothing: its network stays as it is.")
    parameters = sum(weight.numel() for weight in after.values())
    return f"{config.agent.algorithm} learns, is saved and goes on, {steps:,} steps in {parameters:,} parameters"


def _smaller(settings: dict[str, Any]) -> dict[str, Any]:
    """Return an agent's settings with what is in `_SMALL_AGENT`, also inside of its own options."""
    return {
        key: _smaller(value) if isinstance(value, dict) else _SMALL_AGENT.get(key, value)
        for key, value in settings.items()
    }
