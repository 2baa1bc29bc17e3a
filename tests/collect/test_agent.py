"""The agent learns, resumes from its checkpoint, and all that it plays is recorded exactly once."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from gamengen import config as configs
from gamengen import storage
from gamengen.collect import policies
from gamengen.collect.agent import train_agent
from tests.collect.conftest import QUICKSTART, episodes_in

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def run(cluster, overrides):
    """Return a function that trains with further overrides."""

    def train(*more):
        config = configs.load(QUICKSTART, [*overrides, *more])
        return config, train_agent(config)

    return train


def test_training_resumes_and_ends_and_its_agent_plays(run):
    first = ["agent.num_runners=0", "agent.max_env_steps=1000"]
    config, summary = run(*first)
    assert summary["env_steps"] >= 1000 and not summary["resumed"]
    assert summary["recorded_episodes"] >= summary["episodes"] > 0
    weights = Path(config.folder, "agent", summary["checkpoint"], "policy.safetensors").read_bytes()
    _, again = run(*first)
    assert again["nothing_left"] and again["checkpoint"] == summary["checkpoint"]
    _, more = run("agent.num_runners=0", "agent.max_env_steps=2000")
    assert more["resumed"] and more["env_steps"] >= 2000 and more["episodes"] > summary["episodes"]
    checkpoints = [path.name for path in Path(config.folder, "agent").glob("checkpoint-*")]
    assert checkpoints == [more["checkpoint"]] == [storage.read_json(f"{config.folder}/agent/agent.json")["checkpoint"]]
    assert Path(config.folder, "agent", more["checkpoint"], "policy.safetensors").read_bytes() != weights
    assert sum(episodes_in(f"{config.folder}/gameplay").values()) == more["recorded_frames"] >= 2000
    agent = policies.make("agent:0.05", config, config.game_spec())
    assert agent.version == f"dqn-{more['env_steps']}:0.05"


def test_a_killed_runner_loses_no_finished_episode_and_doubles_none(run, overrides):
    from ray._private import state

    config = configs.load(QUICKSTART, overrides)
    killed = []

    def kill_a_runner():
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            time.sleep(0.2)
            if not Path(config.folder, "agent", "agent.json").exists():
                continue  # the first checkpoint is not there yet
            actors = state.actors().values()
            runners = [
                actor for actor in actors if "EnvRunner" in actor["ActorClassName"] and actor["State"] == "ALIVE"
            ]
            if runners:
                os.kill(runners[0]["Pid"], signal.SIGKILL)
                killed.append(runners[0]["Pid"])

    thread = threading.Thread(target=kill_a_runner)
    thread.start()
    _, summary = run("agent.num_runners=2", "agent.max_env_steps=5000")
    thread.join()
    assert killed and summary["env_steps"] >= 5000
    recorded = episodes_in(f"{config.folder}/gameplay")
    assert len(recorded) == summary["recorded_episodes"] >= summary["episodes"] > 0
