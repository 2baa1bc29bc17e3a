"""The agent learns, resumes from its checkpoint, and all that it plays is recorded exactly once."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from gamengen import config as configs
from gamengen import storage
from gamengen.collect import agent, networks, policies, ppo
from gamengen.collect.agent import train_agent
from gamengen.data import shards
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
    player = policies.make("agent:0.05", config, config.game_spec())
    assert player.version == f"dqn-{more['env_steps']}:0.05"


# Two iterations of 256 steps, of a network that is small enough for that.
PPO = [
    "agent.algorithm=ppo",
    "agent.options={channels: [4, 4, 4], features: 8, action_features: 2, hidden_sizes: [16], num_epochs: 2, "
    "entropy_weight: 0.01, clip: 0.2, gae_lambda: 0.95, value_weight: 0.5, clip_norm: 0.5}",
    "agent.num_runners=0",
    "agent.num_envs_per_runner=4",
    "agent.rollout_steps=64",
    "agent.max_env_steps=512",
    "agent.keep_checkpoints=2",
    "agent.checkpoint_every=100",
]


def test_ppo_learns_resumes_and_keeps_its_past(run):
    config, summary = run(*PPO)
    folder = Path(config.folder, "agent")
    assert 512 <= summary["env_steps"] < 600 and summary["iterations"] == 2 and len(summary["kept"]) == 2
    before = networks.load(f"{folder}/{summary['checkpoint']}/policy.safetensors")
    assert_restores(config, summary, before)
    longer = [*PPO, "agent.max_env_steps=1024", "agent.num_runners=1"]
    config, more = run(*longer)
    assert more["resumed"] and more["iterations"] == 4 and len(more["kept"]) == 3  # at half of it there was one
    after = networks.load(f"{folder}/{more['checkpoint']}/policy.safetensors")
    assert any(not torch.equal(old, new) for old, new in zip(before.parameters(), after.parameters(), strict=True))
    points = storage.read_json(f"{folder}/learning.json")
    steps = [point["env_steps"] for point in points]
    assert len(steps) == 4 and steps == sorted(set(steps)) and steps[-1] == more["env_steps"]
    assert sum(point["episodes"] for point in points) == more["episodes"]
    assert all(point["statistics"]["entropy"] > 0 for point in points)
    assert (folder / "learning.png").read_bytes().startswith(b"\x89PNG")
    early, late = (policies.make(name, config, config.game_spec()) for name in ("agent@early", "agent@late"))
    assert early.version == summary["kept"][0]["agent_version"] and late.version == f"ppo-{more['env_steps']}"
    assert sum(episodes_in(f"{config.folder}/gameplay").values()) == more["recorded_frames"]


def assert_restores(config, summary, network):
    """What RLlib takes out of a checkpoint is what the checkpoint's policy is."""
    algorithm = agent.build(config, "nobody")
    try:
        built = ppo.network(algorithm).state_dict()
        algorithm.restore_from_path(f"{config.folder}/agent/{summary['checkpoint']}/rllib")
        restored = ppo.network(algorithm).state_dict()
    finally:
        algorithm.stop()
    assert any(not torch.equal(built[name], weight) for name, weight in network.state_dict().items())
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(restored[name], weight)


@pytest.mark.doom
def test_ppo_plays_doom_and_what_it_held_is_recorded(cluster, tmp_path):
    pytest.importorskip("vizdoom")
    overrides = [
        *PPO,
        f"storage={tmp_path}",
        "agent.num_envs_per_runner=2",
        "agent.evaluation_episodes=1",
        "agent.recorded_share=1.0",  # of a part, drawn at random, each version may have none
        "collect.max_episode_frames=60",
        "collect.repeat_probability=0.3",
        "game.options={levels: basic, frame_tics: 2}",
    ]
    config = configs.load(QUICKSTART.with_name("doom_quickstart.yaml"), overrides)
    summary = train_agent(config)
    assert summary["env_steps"] >= 256 and summary["mean_score"] is not None
    versions, terms = set(), storage.read_json(f"{config.folder}/agent/learning.json")[0]["terms"]
    assert set(terms) == set(pytest.importorskip("gamengen.envs.doom.reward").TERMS)
    for shard in Path(config.folder, "gameplay").glob("*.parquet"):
        for episode in shards.episodes([str(shard)]):
            versions.add(episode.agent_version)
            held = episode.actions[: len(episode.actions) // 2 * 2].reshape(-1, 2)
            assert (held[:, 0] == held[:, 1]).all() and len(episode) <= 61
    assert "ppo-0" in versions and len(versions) > 1


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
