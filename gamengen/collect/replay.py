"""Remembers what an agent has lived through, in arrays: transitions of n steps, drawn at random."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode


class ReplayBuffer:
    """A ring of observations; every observation is stored once, also where it is the successor of another.

    RLlib's own buffers keep episodes and build each batch from Python objects, which costs more than an update of the
    network itself; here a batch is a few index operations.

    Args:
        capacity: observations; the oldest are forgotten.
        n_step: a transition sums up to so many discounted rewards (fewer at the end of a fragment).
    """

    def __init__(self, capacity: int, n_step: int, gamma: float, seed: int) -> None:
        self._capacity, self._n_step, self._gamma = capacity, n_step, gamma
        self._rng = np.random.default_rng(seed)
        self._observations = np.empty((0,), np.float32)
        self._actions = np.zeros(capacity, np.int64)
        self._rewards = np.zeros(capacity, np.float32)
        self._ahead = np.zeros(capacity, np.int64)  # the successor is so many places ahead; 0: no transition from here
        self._terminated = np.zeros(capacity, bool)
        self._next = 0

    def __len__(self) -> int:
        return int(np.count_nonzero(self._ahead))

    def add(self, fragments: Iterable[SingleAgentEpisode]) -> int:
        """Take fragments of episodes; return how many steps they had."""
        return sum(self._add(fragment) for fragment in fragments)

    def sample(self, size: int) -> dict[str, np.ndarray]:
        """Draw transitions with replacement, as RLlib's DQN learner wants them."""
        here = self._rng.choice(np.flatnonzero(self._ahead), size)
        there = (here + self._ahead[here]) % self._capacity
        return {
            Columns.OBS: self._observations[here],
            Columns.NEXT_OBS: self._observations[there],
            Columns.ACTIONS: self._actions[here],
            Columns.REWARDS: self._rewards[here],
            Columns.TERMINATEDS: self._terminated[here],
            "n_step": self._ahead[here].astype(np.float32),
            "weights": np.ones(size, np.float32),
        }

    def _add(self, fragment: SingleAgentEpisode) -> int:
        observations = np.asarray(fragment.get_observations(slice(0, None)))
        rewards = np.asarray(fragment.get_rewards(slice(0, None)), np.float32)
        steps = len(rewards)
        assert steps < self._capacity, "a fragment is much shorter than the buffer"
        if not len(self._observations):
            self._observations = np.zeros((self._capacity, *observations.shape[1:]), observations.dtype)
        places = (self._next + np.arange(steps + 1)) % self._capacity
        self._next = int((places[-1] + 1) % self._capacity)
        ahead = np.minimum(self._n_step, steps - np.arange(steps))
        returns = np.zeros(steps, np.float32)
        for step in range(min(self._n_step, steps)):
            returns[: steps - step] += self._gamma**step * rewards[step:]
        self._observations[places] = observations
        self._actions[places[:-1]] = fragment.get_actions(slice(0, None))
        self._rewards[places[:-1]] = returns
        self._terminated[places[:-1]] = fragment.is_terminated & (np.arange(steps) + ahead == steps)
        self._ahead[places[:-1]] = ahead
        self._ahead[places[-1]] = 0
        return steps
