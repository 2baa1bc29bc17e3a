"""DQN, which the paper plays Chrome Dino with (A.10), on RLlib's new API stack; `gamengen.collect.agent` says what a
file such as this one has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME, TD_ERROR_KEY
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor, nn

from gamengen import config as configs
from gamengen.collect.networks import QNetwork
from gamengen.collect.replay import ReplayBuffer
from gamengen.config import AgentConfig

_ITERATION_STEPS = 1000  # env steps between two looks at the progress


@dataclass(frozen=True)
class Options:
    """What DQN needs beside what every algorithm has."""

    hidden_sizes: tuple[int, ...]
    epsilon_initial: float
    epsilon_final: float
    epsilon_decay: float  # per episode
    replay_capacity: int
    learning_starts: int  # env steps
    n_step: int
    target_update_steps: int
    steps_per_update: int  # env steps per update of the network


class _Encoder(nn.Module):
    """An encoder as RLlib calls it: a batch in, a dict out."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {ENCODER_OUT: self.inner(batch[Columns.OBS])}


class _NoCatalog:
    """RLlib's catalog would choose a network for us, and fail for image sizes that it does not know."""

    def __init__(self, **_: Any) -> None:
        pass

    def get_action_dist_cls(self, framework: str) -> type[TorchCategorical]:
        return TorchCategorical


class DQNModule(DefaultDQNTorchRLModule):
    """RLlib's DQN module around the parts of our QNetwork."""

    def setup(self) -> None:
        settings = self.model_config
        self.uses_dueling, self.uses_double_q, self.num_atoms = True, True, 1
        self.set_epsilon(settings["epsilon"])
        network = QNetwork(self.observation_space.shape, int(self.action_space.n), settings["hidden_sizes"])
        self.encoder = _Encoder(network.encoder)
        self.af, self.vf = network.advantage, network.value

    def set_epsilon(self, epsilon: float) -> None:
        """Set the share of random actions in exploration."""
        self.epsilon_schedule = Scheduler(fixed_value_or_schedule=epsilon, framework=self.framework)


class ReplayDQN(DQN):
    """RLlib's DQN with its runners, learner and loss, around our replay buffer."""

    def setup(self, config: DQNConfig) -> None:
        super().setup(config)
        agent = configs.from_dict(dict(self.config.env_config["config"])).agent
        options = configs.build(Options, dict(agent.options), "agent.options")
        self._batch_size, self._options = agent.train_batch_size, options
        self._replay = ReplayBuffer(options.replay_capacity, options.n_step, agent.gamma, self.config.seed)

    def training_step(self) -> None:
        """Play a fragment in every env, then update as often as `steps_per_update` asks for."""
        fragments, metrics = synchronous_parallel_sample(
            worker_set=self.env_runner_group,
            sample_timeout_s=self.config.sample_timeout_s,
            _uses_new_env_runners=True,
            _return_metrics=True,
        )
        self.metrics.aggregate(metrics, key=ENV_RUNNER_RESULTS)
        steps = self._replay.add(fragments)
        if len(self._replay) < self._options.learning_starts:
            return
        lifetime = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
        size = self._batch_size
        batch = SampleBatch(self._replay.sample(size * max(round(steps / self._options.steps_per_update), 1)))
        results = self.learner_group.update(
            batch=MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=len(batch)),
            minibatch_size=size,
            num_epochs=1,
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: lifetime},
        )
        for result in results:
            result.get(DEFAULT_MODULE_ID, {}).pop(TD_ERROR_KEY, None)  # one value per example, for nobody
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.learner_group, policies=[DEFAULT_MODULE_ID], inference_only=True
        )


def build(agent: AgentConfig, options: Options) -> DQNConfig:
    """Return what of RLlib's config is DQN's own."""
    model = {"epsilon": options.epsilon_initial, "hidden_sizes": list(options.hidden_sizes)}
    return (
        DQNConfig(algo_class=ReplayDQN)
        .training(
            train_batch_size_per_learner=agent.train_batch_size,
            target_network_update_freq=options.target_update_steps,
        )
        .reporting(min_sample_timesteps_per_iteration=_ITERATION_STEPS, min_time_s_per_iteration=0)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=DQNModule, catalog_class=_NoCatalog, model_config=model))
    )


def before_iteration(options: Options, episodes: int) -> Callable[[Any], None]:
    """Return what is done to every runner, also to one that was restarted: it learns how much to explore."""
    epsilon = _epsilon(options, episodes)
    return lambda runner: runner.module.set_epsilon(epsilon)


def statistics(options: Options, episodes: int, result: dict[str, Any]) -> dict[str, float]:
    """Return DQN's own figures of an iteration."""
    return {"epsilon": _epsilon(options, episodes)}


def network(algorithm: Algorithm) -> QNetwork:
    """Return a copy of what the algorithm has learnt."""
    module: DQNModule = algorithm.learner_group._learner.module[DEFAULT_MODULE_ID].unwrapped()
    shape, hidden_sizes = module.observation_space.shape, module.model_config["hidden_sizes"]
    copy = QNetwork(shape, int(module.action_space.n), hidden_sizes)
    copy.encoder.load_state_dict(module.encoder.inner.state_dict())
    copy.advantage.load_state_dict(module.af.state_dict())
    copy.value.load_state_dict(module.vf.state_dict())
    return copy


def _epsilon(options: Options, episodes: int) -> float:
    return max(options.epsilon_final, options.epsilon_initial * options.epsilon_decay**episodes)
