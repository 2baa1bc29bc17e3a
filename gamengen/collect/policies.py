"""Who plays when nobody learns: random keys, the game's scripted player, or the trained agent, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium
import numpy as np

from gamengen import envs, storage
from gamengen.config import Config
from gamengen.game import GameSpec

if TYPE_CHECKING:
    from gamengen.collect.networks import Network

_HOLD_SECONDS = (0.05, 0.7)  # how long people hold a key
_REST_SECONDS = (1.0, 5.0)
_REST_PROBABILITY = 0.15  # of a rest in place of a hold: about half of the time
_KEPT = ("early", "middle", "late")


class Policy(Protocol):
    """Plays one episode after the other; all chance comes from the generator that `reset` gets."""

    version: str
    observes: bool  # looks at the observation; without, the env need not make it

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode."""

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        """Return the index of the action until the next decision."""


class RandomPolicy:
    """Holds a random action for a random time, as long as people hold a key."""

    version = "random"
    observes = False

    def __init__(self, game: GameSpec, frames_per_decision: int = 1) -> None:
        self._num_actions = game.num_actions
        self._decisions_per_second = game.frames_per_second / frames_per_decision
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        self._rng, self._action, self.decisions_left = rng, 0, 0

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        if self.decisions_left == 0:
            self._action, seconds = self._choose()
            shortest, longest = (max(round(bound * self._decisions_per_second), 1) for bound in seconds)
            self.decisions_left = int(self._rng.integers(shortest, longest + 1))
        self.decisions_left -= 1
        return self._action

    def _choose(self) -> tuple[int, tuple[float, float]]:
        """Return an action and for how many seconds it is held, at least and at most."""
        return int(self._rng.integers(self._num_actions)), _HOLD_SECONDS


class RestingPolicy(RandomPolicy):
    """Random play with rests of some seconds, in which no key is held.

    People stand still now and then. Agents and random keys hardly ever do, and what a game looks like then has to be
    recorded, too.
    """

    version = "resting"

    def _choose(self) -> tuple[int, tuple[float, float]]:
        return (0, _REST_SECONDS) if self._rng.random() < _REST_PROBABILITY else super()._choose()


_RANDOM = {policy.version: policy for policy in (RandomPolicy, RestingPolicy)}


class GamePolicy:
    """The scripted player that comes with a game."""

    version = "scripted"
    observes = False

    def __init__(self, config: Config) -> None:
        module = envs.load(config.game.name)
        if not hasattr(module, "SCRIPTED"):
            raise ValueError(
                f"collect.policies has 'scripted', but the game {config.game.name!r} has no scripted player; expected "
                "SCRIPTED in its module. Take another policy, such as random or agent."
            )
        if config.game_spec().actions != module.SPEC.actions:
            raise ValueError(
                f"collect.policies has 'scripted', whose player of {config.game.name!r} needs all of its actions; "
                "expected game.options that keep them. Take another policy, such as random or agent."
            )
        self._player = module.SCRIPTED()

    def reset(self, rng: np.random.Generator) -> None:
        self._player.reset(rng)

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        return int(self._player.action(info))


class AgentPolicy:
    """The agent of this run, as it is or as it once was."""

    observes = True

    def __init__(self, network: Network, version: str) -> None:
        self.version = version
        self._network = network
        self.reset(np.random.default_rng(0))

    @classmethod
    def load(cls, config: Config, when: str = "") -> AgentPolicy:
        """Load the latest checkpoint of the run's agent, or what it was at "early", "middle", "late" or a share.

        Raises:
            ValueError: there is no agent, or it kept nothing on its way.
        """
        from gamengen.collect import networks  # torch, which takes seconds: players without an agent do not wait for it

        folder = f"{config.folder}/agent"
        try:
            state = storage.read_json(f"{folder}/agent.json")
        except FileNotFoundError:
            raise ValueError(
                f"collect.policies has 'agent', but there is none in {folder}; run jobs.train_agent first."
            ) from None
        if when:
            version = kept_version(state.get("kept", []), when, folder)
            return cls(networks.load(kept_policy(folder, version)), version)
        return cls(networks.load(f"{folder}/{state['checkpoint']}/policy.safetensors"), state["agent_version"])

    def reset(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        return self._network.action(observation, self._rng)


def kept_policy(folder: str, version: str) -> str:
    """Return where an agent's folder keeps a policy of the agent's past."""
    return f"{folder}/policies/{version}.safetensors"


def kept_version(kept: Sequence[Mapping[str, Any]], when: str, folder: str) -> str:
    """Return which of the kept versions is meant.

    Args:
        kept: `agent_version` and `env_steps` of each, in order.
        when: "early" is the first of them, "late" the last; a share such as "0.4" means the one nearest to when the
            last one had played that share of its steps.

    Raises:
        ValueError: none is kept.
    """
    if not kept:
        raise ValueError(f"collect.policies has 'agent@{when}', but {folder} keeps none; train the agent again.")
    if when in _KEPT:
        place = {"early": 0, "middle": len(kept) // 2, "late": len(kept) - 1}[when]
    else:
        steps = float(when) * kept[-1]["env_steps"]
        place = min(range(len(kept)), key=lambda index: abs(kept[index]["env_steps"] - steps))
    return str(kept[place]["agent_version"])


class NoisyPolicy:
    """Another policy that now and then plays a random key for a while.

    Args:
        epsilon: share of decisions at which a random hold begins.
    """

    def __init__(self, policy: Policy, epsilon: float, game: GameSpec, frames_per_decision: int = 1) -> None:
        self.version = f"{policy.version}:{epsilon:g}"
        self.observes = policy.observes
        self._policy, self._epsilon, self._random = policy, epsilon, RandomPolicy(game, frames_per_decision)

    def reset(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._policy.reset(rng)
        self._random.reset(rng)

    def action(self, observation: np.ndarray, info: dict[str, Any]) -> int:
        action = self._policy.action(observation, info)  # asked always: it may follow the game
        if self._random.decisions_left > 0 or self._rng.random() < self._epsilon:
            return self._random.action(observation, info)
        return action


def make(name: str, config: Config, game: GameSpec, frames_per_decision: int = 1) -> Policy:
    """Make a policy by its name: `random`, `resting`, `scripted` or `agent`.

    `agent@early`, `agent@middle`, `agent@late` and `agent@0.4` are the agent as it was then (see `kept_version`).
    `agent:0.05`, also `scripted:0.05` and `agent@early:0.05`, begins 5 % of its actions at random.

    Raises:
        ValueError: unknown name, no agent, or a game without a scripted player.
    """
    who, _, epsilon = name.partition(":")
    kind, at, when = who.partition("@")
    if name in _RANDOM:
        return _RANDOM[name](game, frames_per_decision)
    is_then = kind == "agent" and (when in _KEPT or _is_share(when)) if at else True
    if kind not in ("scripted", "agent") or not is_then or (epsilon and not _is_share(epsilon)):
        raise ValueError(
            f"unknown policy in collect.policies, got {name!r}; expected random or resting; or scripted, agent, "
            "agent@early, @middle, @late or @0.4, each of them also with a share of random actions, such as agent:0.05."
        )
    policy: Policy = GamePolicy(config) if kind == "scripted" else AgentPolicy.load(config, when)
    return NoisyPolicy(policy, float(epsilon), game, frames_per_decision) if epsilon else policy


def make_env(config: Config, observes: bool = True) -> gymnasium.Env:
    """Make the run's game with the observation that the run's agent sees, or for a policy that observes nothing.

    The frames are the same.
    """
    envs.require_playable(config.game.name)
    options = dict(config.game.options)
    if envs.takes(config.game.name, "observation"):
        options["observation"] = config.agent.observation
    if not observes:
        options |= getattr(envs.load(config.game.name), "UNOBSERVED", {})
    return envs.make(config.game.name, **options)


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
