"""A tiny run with recorded held-out play, made on the spot, and an untrained model in it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gamengen import config as configs
from gamengen import envs, storage
from gamengen.checkpoint import Architecture, Model
from gamengen.config import Config
from gamengen.data.chunk import Chunk, schema, to_row
from gamengen.models import autoencoders
from gamengen.train import denoiser as stage

TINY = (
    "denoiser.options.channels=[16, 16]", "denoiser.options.blocks=[1, 1]", "denoiser.options.embedding=32",
    "denoiser.options.heads=2", "denoiser.context_length=4", "autoencoder.options.widths=[8, 8]",
    "evaluate.num_windows=8", "evaluate.horizons=[1, 4]", "evaluate.num_horizon_starts=3",
    "evaluate.num_action_starts=6", "evaluate.num_rollouts=3", "evaluate.rollout_frames=20", "evaluate.batch_size=2",
    "evaluate.video_frames=7", "evaluate.num_workers=1",
    "evaluate.inverse_dynamics_steps=0",
)  # fmt: skip


def record(
    config: Config, num_episodes: int = 4, num_frames: int = 160, agent_versions: Sequence[str] = ("scripted",)
) -> None:
    """Play episodes with the scripted player into one shard of the test split."""
    game = config.game_spec()
    rows = []
    for number in range(num_episodes):
        env = envs.make(config.game.name, **config.game.options)
        policy = envs.load(config.game.name).SCRIPTED(skill=1.0, playfulness=0.0)
        policy.reset(np.random.default_rng(number))
        _, info = env.reset(seed=number)
        frames, actions = [env.render()], []
        terminated = False
        while not terminated and len(frames) < num_frames:
            actions.append({20: 1, 21: 1, 22: 1, 45: 2, 46: 2, 47: 2}.get(len(actions)) or policy.action(info))
            _, _, terminated, _, info = env.step(actions[-1])
            frames.append(env.render())
        chunk = Chunk(
            run=config.run, episode=f"episode-{number}", chunk=0, first_frame=0, frames=np.stack(frames),
            actions=np.array(actions, np.int16), rewards=np.zeros(len(actions), np.float32), terminated=terminated,
            truncated=not terminated, agent_version=agent_versions[number % len(agent_versions)], seed=number,
            node="here", split="test",
        )  # fmt: skip
        rows.append(to_row(chunk, codec="delta-zstd", frames_per_second=game.frames_per_second))
    with io.BytesIO() as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema(game)), file)
        storage.write_bytes(f"{config.folder}/gameplay/shard-0.parquet", file.getvalue())


def save_untrained(config: Config, folder: str, *, fast: bool) -> None:
    """Write an untrained model folder."""
    torch.manual_seed(0)
    game = config.game_spec()
    autoencoder = autoencoders.build(config.autoencoder.name, config.autoencoder.options).eval()
    model = Model(game, Architecture(config.autoencoder.name, config.autoencoder.options), autoencoder)
    dataclasses.replace(
        model,
        denoiser_architecture=Architecture(config.denoiser.name, config.denoiser.options),
        denoiser=stage.build(config, game, autoencoder.latent_shape(game.height, game.width)).eval(),
        context_length=config.denoiser.context_length,
        scheduler=stage.scheduler_settings(config, fast=fast),
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run with four held-out episodes of 160 frames and an untrained denoiser, no distilled one."""
    folder = tmp_path_factory.mktemp("evaluate")
    config = configs.load("configs/quickstart.yaml", [*TINY, f"storage={folder}"])
    record(config)
    save_untrained(config, f"{config.folder}/denoiser", fast=False)
    return config
