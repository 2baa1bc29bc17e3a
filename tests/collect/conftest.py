"""Settings for a small run, and a look at what a run has recorded."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gamengen import config as configs

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


@pytest.fixture
def overrides(tmp_path):
    """Settings that make the quickstart's run tiny: 32x64 frames, items and episodes of at most 200 frames."""
    return [
        f"storage={tmp_path}",
        "run=tiny",
        "game.options={downscale: 8}",
        "agent.num_runners=1",
        "agent.num_envs_per_runner=2",
        "agent.max_env_steps=2000",
        "agent.options.learning_starts=200",
        "agent.checkpoint_every=1",
        "agent.evaluation_episodes=2",
        "collect.chunk_frames=32",
        "collect.shard_bytes=20000",
        "collect.max_episode_frames=200",
        "collect.num_frames=2000",
        "collect.num_runners=2",
        "collect.policies={scripted: 0.7, random: 0.3}",
    ]


@pytest.fixture
def config(overrides):
    return configs.load(QUICKSTART, overrides)


@pytest.fixture
def cluster(ray_cluster):
    """Return the address at which other processes can join the tests' cluster."""
    import ray

    return ray.get_runtime_context().gcs_address


def episodes_in(folder) -> dict[str, int]:
    """Return every episode's frames; fails if a chunk is there twice or missing, or an episode is in two shards."""
    seen, frames, home = Counter(), Counter(), {}
    for shard in sorted(Path(folder).glob("*.parquet")):
        rows = pq.read_table(shard, columns=["episode", "chunk", "first_frame", "num_frames", "actions"]).to_pylist()
        for row in rows:
            episode = row["episode"]
            assert home.setdefault(episode, shard) == shard, f"{episode} is in two shards"
            assert row["chunk"] == seen[episode], f"{episode}: chunk {row['chunk']} after {seen[episode]} chunks"
            assert row["first_frame"] == frames[episode]
            seen[episode] += 1
            frames[episode] += row["num_frames"]
    return dict(frames)


def committed(folder) -> int:
    """Return how many shards Ray Data has committed."""
    done = Path(folder, "collect-progress", "done")
    return sum(not path.name.endswith(".pending.parquet") for path in done.glob("*.parquet"))


def assert_exactly_once(config, num_items):
    """All items are there, each with its frames, none twice."""
    episodes = episodes_in(f"{config.folder}/gameplay")
    frames = dict.fromkeys(range(num_items), 0)
    for episode, count in episodes.items():
        item = int(episode.split("-")[-2]) % 1_000_000
        frames[item] += count
    longest = config.collect.max_episode_frames + config.collect.chunk_frames
    assert all(config.collect.max_episode_frames <= count < longest for count in frames.values()), frames
    assert not list(Path(config.folder, "collect-progress", "done").glob("*.pending.parquet"))
