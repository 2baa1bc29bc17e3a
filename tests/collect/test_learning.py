"""A learning curve keeps what was learnt and nothing that is played again; an agent's env counts what it earned."""

import gymnasium
import numpy as np
import pytest
from PIL import Image

from gamengen import storage
from gamengen.collect import learning
from gamengen.collect.agent_env import Episode, LearnersEnv, OutlivesGame
from gamengen.envs import GameDied


class Scripted(gymnasium.Env):
    """Pays 2 and then -1, and ends after so many steps; dies at some of all its steps."""

    observation_space = gymnasium.spaces.Discrete(10)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length=3, dies_at=()):
        self._length, self._dies_at, self.steps, self.starts = length, set(dies_at), 0, 0

    def reset(self, *, seed=None, options=None):
        self.seed, self._step, self.starts = seed, 0, self.starts + 1
        return 0, {}

    def step(self, action):
        self.steps += 1
        if self.steps in self._dies_at:
            raise GameDied("killed")
        self._step += 1
        terms = {"found": 2.0, "lost": -1.0 if self._step > 1 else 0.0}
        return self._step, sum(terms.values()), self._step == self._length, False, {"reward_terms": terms}


def play(env, episodes):
    """Play episodes and return the rewards."""
    rewards = []
    for _ in range(episodes):
        env.reset()
        ended = False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(0)
            rewards.append(reward)
            ended = terminated or truncated
    return rewards


def test_what_is_learnt_from_is_scaled_and_what_is_counted_is_not():
    env = LearnersEnv(Scripted(), 0.5)
    assert play(env, 2) == [1.0, 0.5, 0.5] * 2
    env.reset()
    env.step(0)  # goes on: not counted
    assert env.take_finished() == [Episode(4.0, {"found": 6.0, "lost": -2.0}, 3)] * 2
    assert env.take_finished() == []


def test_who_learns_chooses_no_seed():
    """RLlib's first is the same after every restart; the recorder's own are not."""
    env = LearnersEnv(Scripted(), 1.0)
    env.reset(seed=7)
    assert env.unwrapped.seed is None


def test_an_agent_outlives_its_game_and_does_not_count_the_lost_episode():
    env = LearnersEnv(OutlivesGame(Scripted(dies_at=[5])), 1.0)
    play(env, 3)
    assert len(env.take_finished()) == 2 and env.unwrapped.starts == 3


def test_a_game_that_always_dies_is_an_error():
    with pytest.raises(GameDied):
        play(OutlivesGame(Scripted(dies_at=range(100))), 10)


def episodes(*values):
    return [Episode(value, {"found": value + 1, "lost": -1.0}, 10) for value in values]


def test_a_curve_goes_on_where_the_checkpoint_is(tmp_path):
    curve = learning.LearningCurve(str(tmp_path), 0)
    curve.add(100, 1.0, episodes(1.0, 3.0), {"entropy": 3.7})
    curve.add(200, 2.0, [], {"entropy": float("nan")})
    curve.add(300, 3.0, episodes(5.0), {"entropy": 3.5})
    assert curve.recent_score == 3.0
    curve.save()
    points = storage.read_json(f"{tmp_path}/learning.json")
    assert [(point["score"], point["episodes"]) for point in points] == [(2.0, 2), (None, 0), (5.0, 1)]
    assert points[0]["terms"] == {"found": 3.0, "lost": -1.0} and points[0]["length"] == 10
    assert points[1]["statistics"] == {"entropy": None}
    again = learning.LearningCurve(str(tmp_path), 200)  # the third point was after the checkpoint
    assert again.points == points[:2]
    assert list(tmp_path.glob("tensorboard/events*"))


def test_a_long_curve_is_merged_and_loses_no_episode(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "_MAX_POINTS", 10)
    curve = learning.LearningCurve(str(tmp_path), 0)
    scores = np.random.default_rng(0).normal(size=64)
    for step, score in enumerate(scores):
        curve.add(step + 1, 0.1 * step, episodes(*[score] * (step % 3)), {"entropy": 1.0})
    assert len(curve.points) <= 10 and curve.points[-1]["env_steps"] == 64
    counts = [point["episodes"] for point in curve.points]
    assert sum(counts) == sum(step % 3 for step in range(64))
    total = sum(point["episodes"] * (point["score"] or 0.0) for point in curve.points)
    assert total == pytest.approx(sum(score * (step % 3) for step, score in enumerate(scores)), abs=1e-3)
    steps = [point["env_steps"] for point in curve.points]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("count", [0, 1, 30])
def test_a_curve_is_drawn(tmp_path, count):
    curve = learning.LearningCurve(str(tmp_path), 0)
    for step in range(count):
        curve.add(100 * step, step, episodes(float(step)), {"entropy": 3.0})
    measured = {"trained": (20.0, 2.0), "random play": (1.0, 0.5)}
    (tmp_path / "a.png").write_bytes(learning.picture(curve.points, "a run", measured))
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert picture.shape[1] == 1100 and picture.std() > 5
    blue = (picture[..., 2].astype(int) - picture[..., 0]) > 100
    assert (blue.sum() > 300) == (count > 1)  # beside the legend's short line
