"""DQN, which the paper plays Chrome Dino with (A.10), on RLlib's new API stack; another algorithm is another file.

Such a file has `build(config, env_name) -> AlgorithmConfig`, `set_epsilon(algorithm, epsilon)` and
`network(algorithm) -> QNetwork`.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor, nn

from gamengen.collect.networks import QNetwork
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


def build(config: Config, env_name: str) -> DQNConfig:
    """Return the RLlib config of an agent for a registered env."""
    agent = config.agent
    runners, envs = max(agent.num_runners, 1), agent.num_envs_per_runner
    steps = runners * envs * agent.rollout_steps  # env steps between two rounds of updates
    updates = max(round(steps / agent.steps_per_update), 1)
    # RLlib divides the intensity by this ratio, in which it counts a local runner that does not play.
    native_ratio = agent.train_batch_size / (agent.rollout_steps * envs * (agent.num_runners + 1))
    model = {"epsilon": agent.epsilon_initial, "hidden_sizes": list(agent.hidden_sizes)}
    return (
        DQNConfig()
        .environment(env_name, disable_env_checking=True)
        .env_runners(
            num_env_runners=agent.num_runners,
            num_envs_per_env_runner=envs,
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
            training_intensity=updates * native_ratio,
            target_network_update_freq=agent.target_update_steps,
            num_steps_sampled_before_learning_starts=agent.learning_starts,
            n_step=agent.n_step,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": agent.replay_capacity},
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
    module: DQNModule = algorithm.learner_group._learner.module["default_policy"].unwrapped()
    shape, hidden_sizes = module.observation_space.shape, module.model_config["hidden_sizes"]
    copy = QNetwork(shape, int(module.action_space.n), hidden_sizes)
    copy.encoder.load_state_dict(module.encoder.inner.state_dict())
    copy.advantage.load_state_dict(module.af.state_dict())
    copy.value.load_state_dict(module.vf.state_dict())
    return copy
