"""What is recorded is what the env showed and what was done in it, whole and in order."""

import numpy as np
import pytest

from gamengen.collect import policies
from gamengen.collect.recording import Origin, RecordingEnv
from gamengen.data import chunk as chunks

ORIGIN = Origin("r", "n", "random")


@pytest.fixture
def recorded():
    return {}


@pytest.fixture
def make_env(config, recorded):
    def make(name="a", seed=0, share=1.0):
        sink = recorded.__setitem__
        return RecordingEnv(policies.make_env(config), config.collect, ORIGIN, sink, name, seed, share)

    return make


def play(env, actions):
    """Return the frames that were shown, the rewards, and whether the last step ended the episode."""
    env.reset()
    frames, rewards, ended = [env.render()], [], False
    for action in actions:
        _, reward, terminated, truncated, _ = env.step(action)
        frames.append(env.render())
        rewards.append(reward)
        ended = terminated or truncated
        if ended:
            break
    return np.stack(frames), np.array(rewards, np.float32), ended


def test_an_episode_is_recorded_as_it_was_seen_and_played(make_env, recorded):
    actions = np.random.default_rng(0).integers(0, 3, 1000)
    frames, rewards, ended = play(make_env(), actions)
    assert ended and len(frames) > 33
    (table,) = recorded.values()
    parts = [chunks.from_row(row) for row in table.to_pylist()]
    np.testing.assert_array_equal(np.concatenate([part.frames for part in parts]), frames)
    np.testing.assert_array_equal(np.concatenate([part.actions for part in parts]), actions[: len(rewards)])
    np.testing.assert_array_equal(np.concatenate([part.rewards for part in parts]), rewards)
    assert [part.chunk for part in parts] == list(range(len(parts)))
    assert [part.first_frame for part in parts] == list(range(0, len(frames), 32))
    assert [part.terminated for part in parts] == [False] * (len(parts) - 1) + [True]
    assert not any(part.truncated for part in parts) and {part.split for part in parts} == {parts[0].split}
    assert chunks.game_of(table.schema, "x") == make_env().unwrapped.game_spec
    assert len(table.to_batches()) == 1, "Ray Data writes the batches of a table in any order"


def test_the_recorded_seed_plays_the_episode_again(make_env, recorded, config):
    play(make_env(), [1, 2, 0] * 300)
    (table,) = recorded.values()
    env = policies.make_env(config)
    env.reset(seed=table["seed"][0].as_py())
    np.testing.assert_array_equal(env.render(), chunks.from_row(table.to_pylist()[0]).frames[0])


def test_episodes_are_cut_at_the_longest(make_env, recorded, config):
    env = make_env()
    policy = policies.make("scripted", config, env.unwrapped.game_spec)
    for episode in range(20):
        observation, info = env.reset()
        policy.reset(np.random.default_rng(episode))
        ended = False
        while not ended:
            observation, _, terminated, truncated, info = env.step(policy.action(observation, info))
            ended = terminated or truncated
    cut = [table for table in recorded.values() if table["truncated"][-1].as_py()]
    assert len(recorded) == 20 and cut
    for table in cut:
        assert sum(table["num_frames"].to_pylist()) == 200 and not any(table["terminated"].to_pylist())


def test_interrupted_episodes_are_kept_as_truncated_and_single_frames_are_not(make_env, recorded):
    env = make_env()
    env.reset()
    env.reset()  # nothing was done
    env.step(0)
    env.step(0)
    env.reset()
    assert [table["num_frames"].to_pylist() for table in recorded.values()] == [[3]]
    env.step(0)
    env.close()
    assert [table["truncated"].to_pylist() for table in recorded.values()] == [[True], [True]]


def test_episode_ids_never_repeat(make_env, recorded):
    for _ in range(3):  # as in an EnvRunner that was restarted: same name, same seed
        env = make_env()
        play(env, [0] * 5)
        play(env, [0] * 5)
        env.close()
    assert len(recorded) == 6


def test_the_agent_s_version_is_that_of_the_episode_s_start(make_env, recorded):
    env = make_env()
    play(env, [0] * 3)
    env.name_agent("dqn-100")
    play(env, [0] * 3)
    env.close()
    assert [table["agent_version"][0].as_py() for table in recorded.values()] == ["random", "dqn-100"]


def test_a_share_of_the_episodes_is_recorded_and_all_are_cut_at_the_longest(make_env, recorded):
    env = make_env(share=0.25)
    lengths = []
    for _ in range(60):
        env.reset()
        ended = False
        while not ended:
            *_, terminated, truncated, _ = env.step(2)
            ended = terminated or truncated
        lengths.append(env._num_frames)
    assert 6 <= len(recorded) <= 26  # 15 and three standard errors
    assert max(lengths) <= 200
    assert sorted(sum(table["num_frames"].to_pylist()) for table in recorded.values()) != sorted(lengths)
