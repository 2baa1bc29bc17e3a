"""Policies play by name, with natural holds, and the same way for the same seed."""

import itertools

import numpy as np
import pytest

from gamengen.collect import networks, policies, rollouts


def actions_of(policy, seed, count=300):
    policy.reset(np.random.default_rng(seed))
    return [policy.action(np.zeros(1), {}) for _ in range(count)]


def test_random_play_holds_keys_for_natural_times(config):
    actions = actions_of(policies.RandomPolicy(config.game_spec()), 0, 3000)
    holds = [len(list(group)) for _, group in itertools.groupby(actions)]
    assert set(actions) == {0, 1, 2}
    assert 5 < np.mean(holds) < 20 and actions != actions_of(policies.RandomPolicy(config.game_spec()), 1, 3000)


def test_play_is_the_same_for_the_same_seed(config):
    policy = policies.RandomPolicy(config.game_spec())
    assert actions_of(policy, 5) == actions_of(policy, 5)


def test_noise_has_its_share(config):
    class Still:
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


@pytest.mark.parametrize("name", ["expert", "random:0.1", "agent:2", "scripted:much"])
def test_unknown_policies_are_named(config, name):
    with pytest.raises(ValueError, match="unknown policy"):
        policies.make(name, config, config.game_spec())


def test_an_agent_must_have_been_trained(config):
    with pytest.raises(ValueError, match=r"run jobs\.train_agent first"):
        policies.make("agent", config, config.game_spec())


@pytest.mark.parametrize("shape", [(17,), (40, 128, 2)])
def test_networks_are_saved_with_what_builds_them(tmp_path, shape):
    network = networks.QNetwork(shape, 3, (32, 16))
    networks.save(f"{tmp_path}/policy.safetensors", network)
    observation = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8 if len(shape) == 3 else np.float32)
    assert networks.load(f"{tmp_path}/policy.safetensors").best_action(observation) == network.best_action(observation)
