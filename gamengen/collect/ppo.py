"""PPO, with which the paper plays DOOM (A.5), on RLlib's new API stack; `gamengen.collect.agent` says what a file such
as this one has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.metrics import LEARNER_RESULTS
from torch import Tensor

from gamengen.collect.networks import ActorCritic, inputs_of
from gamengen.config import AgentConfig

_NETWORK = ("channels", "features", "action_features", "hidden_sizes")  # options that build it
_VALUES_AT_ONCE = 256  # observations; all of an iteration as floats would be gigabytes


@dataclass(frozen=True)
class Options:
    """What the paper leaves open (the clip range, lambda, the weight of the value) is what everybody takes."""

    channels: tuple[int, int, int]  # of the CNN that each image has
    features: int  # of each image
    action_features: int  # of each of the past actions
    hidden_sizes: tuple[int, ...]  # of the actor and of the critic
    num_epochs: int
    entropy_weight: float
    clip: float
    gae_lambda: float
    value_weight: float
    clip_norm: float


class PPOModule(TorchRLModule, ValueFunctionAPI):
    """An ActorCritic as RLlib calls it."""

    def setup(self) -> None:
        self.action_dist_cls = TorchCategorical
        self.network = _network(self.observation_space, self.action_space, self.model_config)

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Tensor]:
        return {Columns.ACTION_DIST_INPUTS: self.network.actor(self.network.features(batch[Columns.OBS]))}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Tensor]:
        features = self.network.features(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: self.network.actor(features), Columns.EMBEDDINGS: features}

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """Return the values of a batch, [B]; without `embeddings` (for the advantages), without gradients, too."""
        if embeddings is not None:
            return self.network.critic(embeddings)[:, 0]
        observation = batch[Columns.OBS]
        parts = observation if isinstance(observation, dict) else {"": observation}
        pieces = zip(*(part.split(_VALUES_AT_ONCE) for part in parts.values()), strict=True)
        values = []
        with torch.no_grad():
            for piece in pieces:
                part = dict(zip(parts, piece, strict=True)) if isinstance(observation, dict) else piece[0]
                values.append(self.network(part)[1])
        return torch.cat(values)


def build(agent: AgentConfig, options: Options) -> PPOConfig:
    """Return what of RLlib's config is PPO's own."""
    num_envs = max(agent.num_runners, 1) * agent.num_envs_per_runner
    model = {name: getattr(options, name) for name in _NETWORK}
    return (
        PPOConfig()
        .training(
            train_batch_size_per_learner=num_envs * agent.rollout_steps,
            minibatch_size=agent.train_batch_size,
            num_epochs=options.num_epochs,
            entropy_coeff=options.entropy_weight,
            clip_param=options.clip,
            lambda_=options.gae_lambda,
            vf_loss_coeff=options.value_weight,
            vf_clip_param=float("inf"),
            use_kl_loss=False,
            grad_clip=options.clip_norm,
            grad_clip_by="global_norm",
        )
        .rl_module(rl_module_spec=RLModuleSpec(module_class=PPOModule, model_config=model))
    )


def before_iteration(options: Options, episodes: int) -> Callable[[Any], None]:
    """Return what is done to every runner before an iteration: nothing."""
    return lambda runner: None


def statistics(options: Options, episodes: int, result: dict[str, Any]) -> dict[str, float]:
    """Return PPO's own figures of an iteration; none where all runners were lost in it."""
    learnt = result.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})
    names = {"entropy": "entropy", "value_explained": "vf_explained_var", "policy_loss": "policy_loss"}
    return {name: float(learnt[theirs]) for name, theirs in names.items() if theirs in learnt}


def network(algorithm: Algorithm) -> ActorCritic:
    """Return a copy of what the algorithm has learnt."""
    module = algorithm.env_runner.module
    copy = _network(module.observation_space, module.action_space, module.model_config)
    state = algorithm.learner_group.get_state(components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}")
    weights = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]
    prefix = "network."
    copy.load_state_dict(
        {name.removeprefix(prefix): torch.as_tensor(weight) for name, weight in weights.items() if prefix in name}
    )
    return copy


def _network(observation_space: Any, action_space: Any, settings: dict[str, Any]) -> ActorCritic:
    own = {name: settings[name] for name in _NETWORK}  # RLlib adds settings of its own networks
    return ActorCritic(inputs_of(observation_space), int(action_space.n), **own)
