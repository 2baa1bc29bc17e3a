"""What all tests share: small configs, real play recorded on the spot, an untrained model folder, a Ray cluster."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"

# No test may find somebody's cluster, leave a token in the home folder, or give Ray a path too long for its sockets.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
for _name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_TMPDIR"):
    os.environ.pop(_name, None)
if len(os.environ.get("TMPDIR", "")) > 30 and sys.platform != "win32":
    os.environ["RAY_TMPDIR"] = "/tmp"

# The quickstart's networks and amounts, small: everything that the other settings say stays as it is.
TINY = (
    "agent.num_episodes=4",
    "agent.max_env_steps=1200",
    "agent.options.learning_starts=100",
    "agent.evaluation_episodes=1",
    "collect.num_frames=600",
    "collect.max_episode_frames=60",
    "collect.chunk_frames=16",
    "collect.shard_bytes=20000",
    "collect.split_test=0.3",
    "collect.num_runners=1",
    "autoencoder.options.widths=[8, 8]",
    "autoencoder.options.blocks=[1, 1]",
    "denoiser.options.channels=[16, 16]",
    "denoiser.options.blocks=[1, 1]",
    "denoiser.options.head_blocks=1",
    "denoiser.options.embedding=32",
    "denoiser.options.heads=2",
    "denoiser.context_length=4",
    "train.precision=fp32",
    "train.num_workers=1",
    *(
        f"train.{stage}.{setting}"
        for stage in ("autoencoder", "denoiser", "distill", "decoder")
        for setting in ("steps=6", "batch_size=4", "warmup_steps=2", "log_every=2", "checkpoint_every=3")
    ),
    "evaluate.num_windows=8",
    "evaluate.horizons=[1, 4]",
    "evaluate.num_horizon_starts=2",
    "evaluate.num_action_starts=2",
    "evaluate.num_rollouts=2",
    "evaluate.rollout_frames=12",
    "evaluate.batch_size=4",
    "evaluate.video_frames=8",
    "evaluate.inverse_dynamics_steps=2",
    "serve.threads=1",
)


def load_tiny(storage: Path | str, *overrides: str):
    """Return the tiny Config with `storage` and further overrides."""
    from gamengen import config as configs

    return configs.load(QUICKSTART, [*TINY, f"storage={storage}", *overrides])


def wait_for(condition: Callable[[], object], seconds: float = 400, every: float = 0.2) -> None:
    """Wait for a condition, which is looked at rarely enough not to take the CPU from what is waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(every)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny networks gain nothing by threads, and lose much where the cores are busy."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def tiny_config(tmp_path: Path):
    """The quickstart as a Config with small numbers, in a folder of its own."""
    return load_tiny(tmp_path)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory):
    """A tiny run that has real play in `gameplay/`: 6 shards of 60 frames. Tests only read it."""
    from gamengen import benchmark_model

    config = load_tiny(tmp_path_factory.mktemp("recorded"))
    benchmark_model.record(config, num_items=6, num_frames=60)
    return config


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A tiny run with play, latents and untrained models `autoencoder`, `denoiser`, `distilled`. Tests only read it."""
    import torch

    from gamengen import benchmark_model

    folder = tmp_path_factory.mktemp("made")
    config = benchmark_model.untrained(load_tiny(folder), str(folder), num_items=5, num_frames=60)
    torch.set_num_threads(1)  # the encoder took all
    return config


@pytest.fixture(scope="session")
def made_doom(tmp_path_factory: pytest.TempPathFactory):
    """As `made`, of DOOM: play on a map to learn from and on one that is held out; the autoencoder shows pictures."""
    pytest.importorskip("vizdoom")
    import torch

    from gamengen import benchmark_model, storage
    from gamengen.checkpoint import Model
    from gamengen.data import shards
    from gamengen.train import autoencoder as stage

    game = ("game.name=doom", "game.options={levels: [MAP01, basic], held_out: [basic]}", "agent.observation=none")
    folder = tmp_path_factory.mktemp("doom")
    config = load_tiny(folder, *game, "run=doom", "autoencoder.options.margins=[0, 0]")
    config = benchmark_model.untrained(config, str(folder), num_items=6, num_frames=40)
    recorded = shards.find(f"{config.folder}/gameplay")
    for name in ("denoiser", "distilled"):
        model = Model.from_pretrained(f"{config.folder}/{name}")
        model.autoencoder.initialise(stage.sample_images(model.autoencoder, recorded))
        stage.set_statistics(model.autoencoder, recorded)
        storage.filesystem(config.folder)[0].delete_dir(f"{config.folder}/{name}")
        model.save_pretrained(f"{config.folder}/{name}")
    torch.set_num_threads(1)
    return config


@pytest.fixture(scope="session")
def model_folder(made) -> str:
    """An untrained model folder of the real game at 256x128, with a start frame."""
    return f"{made.folder}/denoiser"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of this test session alone."""
    import ray

    started = not ray.is_initialized()
    if started:
        memory = 500_000_000
        ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=memory)
    yield
    if started:
        ray.shutdown()
