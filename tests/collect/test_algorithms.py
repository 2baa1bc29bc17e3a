"""Every YAML's `agent.options` fit its algorithm, and every mistake in them is a line that says what and where."""

from pathlib import Path

import pytest

from gamengen import config as configs
from gamengen.collect import agent
from tests.collect.conftest import QUICKSTART

PPO = QUICKSTART.with_name("doom_quickstart.yaml")


@pytest.mark.parametrize("path", sorted(Path(QUICKSTART.parent).glob("*.yaml")), ids=lambda path: path.name)
def test_every_yaml_s_options_fit_its_algorithm(path):
    config = configs.load(path)
    agent.check(config)
    assert config.agent.algorithm == ("ppo" if "doom" in path.name else "dqn")


@pytest.mark.parametrize(
    ("path", "override", "words"),
    [
        (PPO, "agent.options.entropy=0.1", ["agent.options.entropy", "did you mean 'entropy_weight'"]),
        (PPO, "agent.options.channels=[16, 32]", ["agent.options.channels"]),
        (PPO, "agent.options.num_epochs=many", ["agent.options.num_epochs", "integer", "many"]),
        (PPO, "agent.algorithm=dqn", ["agent.options"]),
        (QUICKSTART, "agent.options={}", ["agent.options.hidden_sizes is missing"]),
        (QUICKSTART, "agent.options.epsilon=0.1", ["agent.options.epsilon", "did you mean 'epsilon_"]),
        (QUICKSTART, "agent.algorithm=sac", ["agent.algorithm", "sac"]),
        (QUICKSTART, "agent.recorded_share=1.5", ["agent.recorded_share", "1.5"]),
    ],
)
def test_a_mistake_is_one_clear_line_before_anything_starts(tmp_path, path, override, words):
    with pytest.raises(ValueError) as caught:
        agent.train_agent(configs.load(path, [f"storage={tmp_path}", override]))
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert not list(tmp_path.iterdir())
