"""The networks take what the games show, start even-handed, and come back from their files as they were."""

import gymnasium
import numpy as np
import pytest
import torch

from gamengen.collect import networks

DOOM = gymnasium.spaces.Dict(
    screen=gymnasium.spaces.Box(0, 255, (120, 160, 3), np.uint8),
    automap=gymnasium.spaces.Box(0, 255, (120, 160), np.uint8),
    actions=gymnasium.spaces.Box(0, 42, (32,), np.int64),
)
VECTOR = gymnasium.spaces.Box(-1, 1, (17,), np.float32)
IMAGE = gymnasium.spaces.Box(0, 255, (40, 128, 2), np.uint8)


def actor_critic(space, num_actions=43):
    return networks.ActorCritic(networks.inputs_of(space), num_actions, (4, 8, 8), 16, 3, (32, 24))


def batch_of(space, count):
    space.seed(3)
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, gymnasium.spaces.Dict):
        return {name: torch.as_tensor(np.stack([sample[name] for sample in samples])) for name in space.spaces}
    return torch.as_tensor(np.stack(samples))


def test_the_paper_s_observation_becomes_features_per_image_and_per_past_action():
    assert networks.inputs_of(DOOM) == {
        "screen": ["image", 120, 160, 3],
        "automap": ["image", 120, 160],
        "actions": ["indices", 43, 32],
    }
    network = actor_critic(DOOM)
    batch = batch_of(DOOM, 5)
    assert network.features(batch).shape == (5, 16 + 16 + 32 * 3)
    logits, values = network(batch)
    assert logits.shape == (5, 43) and values.shape == (5,)
    chances = logits.softmax(-1)
    assert chances.min() > 0.5 / 43 and chances.max() < 2 / 43  # at first it prefers nothing
    assert {name for name, _ in network.encoders.named_children()} == {"screen", "automap", "actions"}


@pytest.mark.parametrize("part", ["screen", "automap", "actions"])
def test_every_part_of_the_observation_counts(part):
    network, batch = actor_critic(DOOM), batch_of(DOOM, 2)
    other = {**batch, part: (batch[part] + 1) % 40}
    assert not torch.equal(network(batch)[0], network(other)[0])


@pytest.mark.parametrize("space", [VECTOR, IMAGE])
def test_other_games_observations_fit(space):
    logits, values = actor_critic(space, 3)(batch_of(space, 4))
    assert logits.shape == (4, 3) and values.shape == (4,)


def test_what_no_network_can_see_is_refused():
    with pytest.raises(ValueError, match=r"observation.*Discrete\(1\).*agent\.observation"):
        networks.inputs_of(gymnasium.spaces.Discrete(1))


def test_actions_are_drawn_by_their_chances():
    network = actor_critic(VECTOR, 3)
    with torch.no_grad():
        network.actor[1].weight.zero_()
        network.actor[1].bias.copy_(torch.tensor([0.6, 0.3, 0.1]).log())
    observation, rng = np.zeros(17, np.float32), np.random.default_rng(0)
    drawn = np.bincount([network.action(observation, rng) for _ in range(2000)], minlength=3) / 2000
    np.testing.assert_allclose(drawn, [0.6, 0.3, 0.1], atol=0.04)  # four standard errors
    once, again = ([network.action(observation, rng) for _ in range(20)] for rng in map(np.random.default_rng, (5, 5)))
    assert once == again


@pytest.mark.parametrize(
    ("network", "space"),
    [
        (networks.QNetwork((17,), 3, (32, 16)), VECTOR),
        (networks.QNetwork((40, 128, 2), 3, (32, 16)), IMAGE),
        (actor_critic(VECTOR), VECTOR),
        (actor_critic(DOOM), DOOM),
    ],
)
def test_networks_are_saved_with_what_builds_them(tmp_path, network, space):
    networks.save(f"{tmp_path}/policy.safetensors", network)
    loaded = networks.load(f"{tmp_path}/policy.safetensors")
    assert type(loaded) is type(network) and not any(weight.requires_grad for weight in loaded.parameters())
    torch.testing.assert_close(loaded(batch_of(space, 3)), network(batch_of(space, 3)))
    observation = space.sample()
    played, played_again = (
        [each.action(observation, np.random.default_rng(seed)) for seed in range(10)] for each in (network, loaded)
    )
    assert played == played_again


def test_a_file_of_something_else_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="not an agent's network"):
        networks.load(f"{tmp_path}/a.safetensors")
