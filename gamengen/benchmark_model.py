"""Makes what a benchmark needs where a run is not trained: a little real play, its latents, untrained networks."""

from __future__ import annotations

import dataclasses
import io

import pyarrow.parquet as pq
import torch

from gamengen import storage
from gamengen.checkpoint import Architecture, Model
from gamengen.collect import policies
from gamengen.collect.recording import Origin
from gamengen.collect.rollouts import play_item
from gamengen.config import Config
from gamengen.data import shards
from gamengen.encode import Encoder
from gamengen.models import autoencoders
from gamengen.train import denoiser as stage

NUM_ITEMS = 4
ITEM_FRAMES = 400


def record(config: Config, num_items: int = NUM_ITEMS, num_frames: int = ITEM_FRAMES) -> list[str]:
    """Play items at random into shards of `gameplay/`, one shard each, without a cluster; returns their paths."""
    env = policies.make_env(config)
    game = env.unwrapped.game_spec  # type: ignore[attr-defined]
    policy = policies.make("random", config, game)
    settings = dataclasses.replace(config.collect, max_episode_frames=num_frames, split_val=0.0, split_test=0.0)
    for seed in range(num_items):
        rows = play_item(env, policy, settings, Origin(config.run, "here", policy.version), seed)
        with io.BytesIO() as file:
            pq.write_table(rows, file)
            storage.write_bytes(f"{config.folder}/gameplay/made-{seed}.parquet", file.getvalue())
    env.close()
    return shards.find(f"{config.folder}/gameplay", game)


def untrained(config: Config, folder: str, num_items: int = NUM_ITEMS, num_frames: int = ITEM_FRAMES) -> Config:
    """Return the config of a run in `folder` with play, latents, and untrained models `denoiser` and `distilled`."""
    config = dataclasses.replace(config, storage=folder)
    game, recorded = config.game_spec(), record(config, num_items, num_frames)
    autoencoder = autoencoders.build(config.autoencoder.name, config.autoencoder.options).eval()
    architecture = Architecture(config.autoencoder.name, config.autoencoder.options)
    model = Model(game, architecture, autoencoder)
    model.save_pretrained(f"{config.folder}/autoencoder")
    encoder = Encoder(f"{config.folder}/autoencoder", config.encode.batch_size, use_gpu=False)
    for shard in recorded:
        encoder({"shard": shard})
    first = next(shards.episodes(recorded)).frames[:1]
    model = dataclasses.replace(
        model,
        denoiser_architecture=Architecture(config.denoiser.name, config.denoiser.options),
        denoiser=stage.build(config, game, autoencoder.latent_shape(game.height, game.width)).eval(),
        context_length=config.denoiser.context_length,
        scheduler=stage.scheduler_settings(config),
        start_frames=torch.tensor(first)[None],
        start_actions=torch.zeros(1, 1, dtype=torch.long),
    )
    model.save_pretrained(f"{config.folder}/denoiser")
    dataclasses.replace(model, scheduler=stage.scheduler_settings(config, fast=True)).save_pretrained(
        f"{config.folder}/distilled"
    )
    return config
