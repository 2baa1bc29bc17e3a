"""Policies play by name, with natural holds, and the same way for the same seed."""

import itertools

import numpy as np
import pytest

from gamengen import config as configs
from gamengen import envs, paced_game, storage
from gamengen.collect import networks, policies, rollouts
from gamengen.collect.playing import play_item
from gamengen.collect.recording import Origin
from tests.collect.conftest import QUICKSTART


def actions_of(policy, seed, count=300):
    policy.reset(np.random.default_rng(seed))
    return [policy.action(np.zeros(1), {}) for _ in range(count)]


def test_random_play_holds_keys_for_natural_times(config):
    actions = actions_of(policies.RandomPolicy(config.game_spec()), 0, 3000)
    holds = [len(list(group)) for _, group in itertools.groupby(actions)]
    assert set(actions) == {0, 1, 2}
    assert 5 < np.mean(holds) < 20 and actions != actions_of(policies.RandomPolicy(config.game_spec()), 1, 3000)


def test_who_rests_holds_no_key_for_seconds_and_plays_at_random_between(config):
    game = config.game_spec()
    actions = actions_of(policies.make("resting", config, game), 0, 20_000)
    rests = [len(list(group)) for action, group in itertools.groupby(actions) if action == 0]
    seconds = np.array(rests) / game.frames_per_second
    assert 1 < np.median(seconds[seconds > 0.75]) < 5 and 0.4 < np.mean(np.array(actions) == 0) < 0.75
    assert set(actions) == {0, 1, 2}


def test_play_is_the_same_for_the_same_seed(config):
    policy = policies.RandomPolicy(config.game_spec())
    assert actions_of(policy, 5) == actions_of(policy, 5)


def test_noise_has_its_share(config):
    class Still:
        observes = False
        version = "still"

        def reset(self, rng):
            pass

        def action(self, observation, info):
            return 0

    game = config.game_spec()
    assert set(actions_of(policies.NoisyPolicy(Still(), 0.0, game), 0)) == {0}
    assert policies.NoisyPolicy(Still(), 0.1, game).version == "still:0.1"
    assert 0.2 < np.mean(np.array(actions_of(policies.NoisyPolicy(Still(), 0.1, game), 0, 3000)) != 0) < 0.6


def test_shares_are_kept_from_the_first_items_on():
    shares = {"scripted": 0.6, "random": 0.25, "agent": 0.15}
    for num_items in (20, 400):
        names = [rollouts.policy_of(item, shares) for item in range(num_items)]
        for name, share in shares.items():
            assert abs(names.count(name) / num_items - share) <= 1.5 / num_items + 0.02


@pytest.mark.parametrize(
    "name",
    [
        *("expert", "random:0.1", "resting:0.1", "scripted:much", "scripted@early"),
        *("agent:2", "agent@", "agent@soon", "agent@1.5"),
    ],
)
def test_unknown_policies_are_named(config, name):
    with pytest.raises(ValueError, match="unknown policy"):
        policies.make(name, config, config.game_spec())


def test_an_agent_must_have_been_trained(config):
    with pytest.raises(ValueError, match=r"run jobs\.train_agent first"):
        policies.make("agent", config, config.game_spec())


KEPT = [{"agent_version": f"ppo-{steps}", "env_steps": steps} for steps in (100, 200, 300, 400, 500)]


@pytest.mark.parametrize(
    ("when", "steps"),
    [("early", 100), ("middle", 300), ("late", 500), ("0", 100), ("0.4", 200), ("0.55", 300), ("1.0", 500)],
)
def test_the_agent_s_past_has_names(when, steps):
    assert policies.kept_version(KEPT, when, "folder") == f"ppo-{steps}"
    assert policies.kept_version(KEPT[:1], when, "folder") == "ppo-100"


def test_an_agent_that_kept_nothing_says_so():
    with pytest.raises(ValueError, match=r"'agent@early'.*folder keeps none"):
        policies.kept_version([], "early", "folder")


def test_a_mixture_plays_the_agent_s_past(config):
    folder = f"{config.folder}/agent"
    for steps in (100, 500):
        network = networks.QNetwork((17,), 3, (8,))
        networks.save(policies.kept_policy(folder, f"dqn-{steps}"), network)
        networks.save(f"{folder}/checkpoint-000001/policy.safetensors", network)
    kept = [{"agent_version": f"dqn-{steps}", "env_steps": steps, "episodes": 1} for steps in (100, 500)]
    state = {"checkpoint": "checkpoint-000001", "agent_version": "dqn-500", "kept": kept}
    storage.write_json(f"{folder}/agent.json", state)
    names = ("agent@early", "agent@late:0.05", "agent")
    versions = [policies.make(name, config, config.game_spec()).version for name in names]
    assert versions == ["dqn-100", "dqn-500:0.05", "dqn-500"]


def test_random_play_holds_keys_equally_long_where_decisions_are_held(config):
    game = config.game_spec()
    means = []
    for frames in (1, 4):
        actions = actions_of(policies.RandomPolicy(game, frames), 0, 8000)
        means.append(frames * np.mean([len(list(group)) for _, group in itertools.groupby(actions)]))
    assert means[1] == pytest.approx(means[0], abs=4)  # a decision


DOOM = ["game.name=doom", "game.options={levels: basic, action_tics: 2}"]


@pytest.mark.parametrize("game", [[], pytest.param(DOOM, marks=pytest.mark.doom)], ids=["dino", "doom"])
def test_who_does_not_look_records_the_same_frames(overrides, game):
    """The observation is the agent's: it changes no frame, and nothing is made that nobody looks at."""
    config = configs.load(QUICKSTART, [*overrides, *game, "agent.observation=pixels", "collect.max_episode_frames=64"])
    policy = policies.make("random", config, config.game_spec())
    seen, unseen = policies.make_env(config), policies.make_env(config, policy.observes)
    assert seen.observation_space != unseen.observation_space
    rows = [play_item(env, policy, config.collect, Origin("r", "n", "random"), 5) for env in (seen, unseen)]
    assert rows[0].equals(rows[1])
    seen.close(), unseen.close()


def test_only_a_game_that_takes_it_is_given_an_observation(overrides):
    game = ["game.name=gamengen.paced_game", "game.options={}"]
    with policies.make_env(configs.load(QUICKSTART, [*overrides, *game])) as env:
        assert env.unwrapped.game_spec is paced_game.SPEC
    with pytest.raises(ValueError, match=r"game\.options\.pase of the game .* did you mean 'pace'"):
        envs.make("gamengen.paced_game", pase=2)
