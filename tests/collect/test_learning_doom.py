"""The paper's agent visibly learns: on two cores and within two minutes, PPO beats random play in DOOM's `basic`."""

import math

import pytest

from gamengen import config as configs
from gamengen import storage
from gamengen.collect.agent import train_agent
from tests.collect.conftest import QUICKSTART

pytestmark = [pytest.mark.ray, pytest.mark.doom, pytest.mark.slow, pytest.mark.timeout(600)]

# In `basic` a monster stands somewhere along a wall: the shot that kills it earns 106, one that misses loses 5, every
# tic loses 1, and who never hits it ends at -300 or below. Measured on 25 November 2026, 20 episodes each: random play
# -160 ± 36, after 4,118 decisions -95 ± 44, after 6,185 27 ± 26, after 7,217 67 ± 5. One run learns later than another:
# on 29 November two of five had not learnt enough after 7,700, while two had means of 40 to 60 from 10,000 on.
DECISIONS = 12_000
SETTINGS = [
    "game.options={levels: basic, reward: scenario, actions: scenario, frame_tics: 4, action_tics: 8}",
    "agent.reward_scale=0.01",
    "collect.repeat_probability=0.1",
    f"agent.max_env_steps={DECISIONS}",
    "agent.evaluation_episodes=20",
    "agent.recorded_share=0.0",
]


def test_ppo_beats_random_play(cluster, tmp_path):
    pytest.importorskip("vizdoom")
    config = configs.load(QUICKSTART.with_name("doom_quickstart.yaml"), [f"storage={tmp_path}", *SETTINGS])
    summary = train_agent(config)
    margin = summary["mean_score"] - summary["random_score"]
    error = math.hypot(summary["mean_score_error"], summary["random_score_error"])
    points = storage.read_json(f"{config.folder}/agent/learning.json")
    quarter = len(points) // 4
    early, late = (sum(point["score"] for point in part) / quarter for part in (points[:quarter], points[-quarter:]))
    print(f"after {summary['env_steps']} decisions {summary['mean_score']}, random play {summary['random_score']}")
    assert margin > 3 * error and margin > 100, summary
    assert late > early + 40, "the curve does not rise"
    assert (storage.read_bytes(f"{config.folder}/agent/learning.png")).startswith(b"\x89PNG")
