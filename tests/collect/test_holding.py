"""An action is held for its frames, and now and then once more; rewards are summed."""

import itertools

import gymnasium
import numpy as np
import pytest

from gamengen.collect.holding import HeldActions, frames_per_decision, hold


class Counting(gymnasium.Env):
    """Remembers the actions of an episode, pays 1 for each and ends after so many frames."""

    observation_space = gymnasium.spaces.Discrete(1000)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, length=10_000):
        self._length = length

    def reset(self, *, seed=None, options=None):
        self.actions = []
        return 0, {}

    def step(self, action):
        self.actions.append(action)
        done = len(self.actions) == self._length
        return len(self.actions), 1.0, done, False, {"reward_terms": {"frames": 1.0, "odd": float(action % 2)}}


class Doomlike(Counting):
    frames_per_action = 2


def test_rewards_are_summed_and_the_end_is_not_passed():
    env = HeldActions(Counting(7), 3)
    env.reset()
    steps = [env.step(action) for action in (0, 1, 2)]
    assert [step[:4] for step in steps] == [(3, 3.0, False, False), (6, 3.0, False, False), (7, 1.0, True, False)]
    assert [step[4]["reward_terms"] for step in steps] == [{"frames": 3, "odd": 0}, {"frames": 3, "odd": 3}] + [
        {"frames": 1, "odd": 0}
    ]
    assert env.unwrapped.actions == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.4])
def test_repeats_have_their_probability_and_are_told(probability):
    env = HeldActions(Counting(), 2, probability, seed=3)
    env.reset(seed=5)
    told = [env.step(action)[4]["action"] for action in range(4000)]  # never the same twice
    assert [action for action in told for _ in range(2)] == env.unwrapped.actions
    repeated = [now == before for before, now in itertools.pairwise(told)]
    assert all(now == asked for asked, (now, again) in enumerate(zip(told[1:], repeated, strict=True), 1) if not again)
    assert np.mean(repeated) == pytest.approx(probability, abs=0.03)  # four standard errors


def test_the_same_seed_repeats_the_same():
    def told(seed):
        env = HeldActions(Counting(), 1, 0.5)
        env.reset(seed=seed)
        return [env.step(step % 3)[4]["action"] for step in range(50)]

    assert told(1) == told(1) != told(2)


def test_an_episode_begins_with_the_player_s_own_action():
    env = HeldActions(Counting(), 1, 0.99, seed=0)
    for action in (0, 1, 2):
        env.reset()
        assert env.step(action)[4]["action"] == action


def test_only_what_is_held_is_wrapped():
    plain, doom = Counting(), Doomlike()
    assert frames_per_decision(plain) == 1 and frames_per_decision(doom) == 2
    assert hold(plain) is plain
    assert isinstance(hold(plain, 0.1), HeldActions) and isinstance(hold(doom), HeldActions)


@pytest.mark.parametrize(("num_frames", "probability"), [(0, 0.0), (2, 1.0), (2, -0.1)])
def test_what_cannot_be_held_is_refused(num_frames, probability):
    with pytest.raises(ValueError, match="expected"):
        HeldActions(Counting(), num_frames, probability)
