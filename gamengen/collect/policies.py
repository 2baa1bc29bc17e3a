"""Who plays when nobody learns: random keys, the game's scripted player, or the trained agent, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import gymnasium
import numpy as np

from gamengen import envs, storage
from gamengen.config import Config
from gamengen.game import GameSpec

if TYPE_CHECKING:
    from gamengen.collect.networks import QNetwork

_HOLD_SECONDS = (0.05, 0.7)  # how long people hold a key


class Policy(Protocol):
    """Plays one episode after the other; all chance comes from the generator that `reset` gets."""

    version: str

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode."""

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        """Return the index of the action to hold for the next frame."""


class RandomPolicy:
    """Holds a random action for a random time, as long as people hold a key."""

    version = "random"

    def __init__(self, game: GameSpec) -> None:
        self._num_actions = game.num_actions
        shortest, longest = (round(seconds * game.frames_per_second) for seconds in _HOLD_SECONDS)
        self._hold = (max(shortest, 1), max(longest, 1))
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        self._rng, self._action, self.frames_left = rng, 0, 0

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        if self.frames_left == 0:
            self._action = int(self._rng.integers(self._num_actions))
            self.frames_left = int(self._rng.integers(self._hold[0], self._hold[1] + 1))
        self.frames_left -= 1
        return self._action


class GamePolicy:
    """The scripted player that comes with a game."""

    version = "scripted"

    def __init__(self, config: Config) -> None:
        module = envs.load(config.game.name)
        if not hasattr(module, "SCRIPTED"):
            raise ValueError(
                f"collect.policies has 'scripted', but the game {config.game.name!r} has no scripted player; expected "
                "SCRIPTED in its module. Take another policy, such as random or agent."
            )
        self._player = module.SCRIPTED()

    def reset(self, rng: np.random.Generator) -> None:
        self._player.reset(rng)

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        return int(self._player.action(info))


class AgentPolicy:
    """The agent of this run, always its best action."""

    def __init__(self, network: QNetwork, version: str) -> None:
        self.version = version
        self._network = network

    @classmethod
    def load(cls, config: Config) -> AgentPolicy:
        """Load the latest checkpoint of the run's agent; raises ValueError if there is none."""
        from gamengen.collect import networks  # torch, which takes seconds: players without an agent do not wait for it

        folder = f"{config.folder}/agent"
        try:
            state = storage.read_json(f"{folder}/agent.json")
        except FileNotFoundError:
            raise ValueError(
                f"collect.policies has 'agent', but there is none in {folder}; run jobs.train_agent first."
            ) from None
        return cls(networks.load(f"{folder}/{state['checkpoint']}/policy.safetensors"), state["agent_version"])

    def reset(self, rng: np.random.Generator) -> None:
        pass

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        return self._network.best_action(observation)


class NoisyPolicy:
    """Another policy that now and then plays a random key for a while.

    Args:
        epsilon: share of decisions at which a random hold begins.
    """

    def __init__(self, policy: Policy, epsilon: float, game: GameSpec) -> None:
        self.version = f"{policy.version}:{epsilon:g}"
        self._policy, self._epsilon, self._random = policy, epsilon, RandomPolicy(game)

    def reset(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._policy.reset(rng)
        self._random.reset(rng)

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        action = self._policy.action(observation, info)  # asked always: it may follow the game
        if self._random.frames_left > 0 or self._rng.random() < self._epsilon:
            return self._random.action(observation, info)
        return action


def make(name: str, config: Config, game: GameSpec) -> Policy:
    """Make a policy by its name, `random`, `scripted` or `agent`; `agent:0.05` begins 5 % of its actions at random.

    Raises:
        ValueError: unknown name, no agent, or a game without a scripted player.
    """
    kind, _, epsilon = name.partition(":")
    if kind == "random" and not epsilon:
        return RandomPolicy(game)
    if kind not in ("scripted", "agent") or (epsilon and not _is_share(epsilon)):
        raise ValueError(
            f"unknown policy in collect.policies, got {name!r}; expected random, scripted, agent, or one of the last "
            "two with a share of random actions, such as agent:0.05."
        )
    policy: Policy = GamePolicy(config) if kind == "scripted" else AgentPolicy.load(config)
    return NoisyPolicy(policy, float(epsilon), game) if epsilon else policy


def make_env(config: Config) -> gymnasium.Env:
    """Make the run's game with the observation that the run's agent sees."""
    envs.require_playable(config.game.name)
    return envs.make(config.game.name, **{**config.game.options, "observation": config.agent.observation})


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
