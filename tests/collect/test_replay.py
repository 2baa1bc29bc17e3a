"""The replay buffer's transitions are those of the episodes, over n steps and across its own end."""

import numpy as np
import pytest
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from gamengen.collect.replay import ReplayBuffer


def fragment(first: int, steps: int, *, terminated: bool = False) -> SingleAgentEpisode:
    """An episode's fragment in which the observation is the time, the action its parity and the reward 1."""
    times = np.arange(first, first + steps + 1, dtype=np.float32)
    return SingleAgentEpisode(
        observations=list(times[:, None]),
        actions=[int(time) % 2 for time in times[:-1]],
        rewards=[1.0] * steps,
        terminated=terminated,
        len_lookback_buffer=0,
    )


@pytest.mark.parametrize("capacity", [1000, 50])
def test_transitions_are_those_of_the_episodes(capacity):
    replay = ReplayBuffer(capacity, n_step=3, gamma=0.5, seed=0)
    for episode in range(10):
        assert replay.add([fragment(100 * episode, 8), fragment(100 * episode + 8, 5, terminated=True)]) == 13
    batch = replay.sample(2000)
    now, then = batch["obs"][:, 0], batch["new_obs"][:, 0]
    n_step = (then - now).astype(int)
    assert set(n_step) == {1, 2, 3} and (batch["n_step"] == n_step).all()
    np.testing.assert_array_equal(now // 100, then // 100)  # never from one episode into another
    np.testing.assert_array_equal(batch["actions"], now % 2)
    np.testing.assert_allclose(batch["rewards"], [sum(0.5**step for step in range(n)) for n in n_step])
    np.testing.assert_array_equal(batch["terminateds"], then % 100 == 13)


def test_the_oldest_are_forgotten():
    replay = ReplayBuffer(50, n_step=1, gamma=1.0, seed=0)
    for start in range(0, 1000, 10):
        replay.add([fragment(start, 9)])
    assert len(replay) == 45 and replay.sample(500)["obs"].min() >= 950
