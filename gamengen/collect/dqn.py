"""DQN, which the paper plays Chrome Dino with (A.10), on RLlib's new API stack; another algorithm is another file.

Such a file has `build(config, env_name) -> AlgorithmConfig`, `set_epsilon(algorithm, epsilon)` and
`network(algorithm) -> QNetwork`.
"""

from __future__ import annotations

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
from gamengen.config import Config

_ITERATION_STEPS = 1000  # env steps between two looks at the progress


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
        self._agent = configs.from_dict(dict(self.config.env_config["config"])).agent
        agent = self._agent
        self._replay = ReplayBuffer(agent.replay_capacity, agent.n_step, agent.gamma, self.config.seed)

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
        if len(self._replay) < self._agent.learning_starts:
            return
        lifetime = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
        size = self._agent.train_batch_size
        batch = SampleBatch(self._replay.sample(size * max(round(steps / self._agent.steps_per_update), 1)))
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


def build(config: Config, env_name: str) -> DQNConfig:
    """Return the RLlib config of an agent for a registered env."""
    agent = config.agent
    model = {"epsilon": agent.epsilon_initial, "hidden_sizes": list(agent.hidden_sizes)}
    return (
        DQNConfig(algo_class=ReplayDQN)
        .environment(env_name, disable_env_checking=True)
        .env_runners(
            num_env_runners=agent.num_runners,
            num_envs_per_env_runner=agent.num_envs_per_runner,
            gym_env_vectorize_mode="sync",
            rollout_fragment_length=agent.rollout_steps,
            sample_timeout_s=300,
            num_cpus_per_env_runner=1,
        )
        .fault_tolerance(restart_failed_env_runners=True)
        .learners(num_learners=0)
        .training(
            lr=agent.learning_rate,
            gamma=agent.gamma,
            train_batch_size_per_learner=agent.train_batch_size,
            target_network_update_freq=agent.target_update_steps,
        )
        .reporting(min_sample_timesteps_per_iteration=_ITERATION_STEPS, min_time_s_per_iteration=0)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=DQNModule, catalog_class=_NoCatalog, model_config=model))
        .debugging(seed=config.seed, log_level="ERROR")
    )


def set_epsilon(algorithm: Algorithm, epsilon: float) -> None:
    """Set the share of random actions in all runners, also in one that was restarted a moment ago."""
    algorithm.env_runner_group.foreach_env_runner(lambda runner: runner.module.set_epsilon(epsilon))


def network(algorithm: Algorithm) -> QNetwork:
    """Return a copy of what the algorithm has learnt."""
    module: DQNModule = algorithm.learner_group._learner.module[DEFAULT_MODULE_ID].unwrapped()
    shape, hidden_sizes = module.observation_space.shape, module.model_config["hidden_sizes"]
    copy = QNetwork(shape, int(module.action_space.n), hidden_sizes)
    copy.encoder.load_state_dict(module.encoder.inner.state_dict())
    copy.advantage.load_state_dict(module.af.state_dict())
    copy.value.load_state_dict(module.vf.state_dict())
    return copy
