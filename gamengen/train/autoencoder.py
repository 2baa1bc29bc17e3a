"""Stage `autoencoder`: learns to reconstruct random crops of recorded frames, from scratch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamengen.config import Config
from gamengen.data import shards
from gamengen.data.stream import CropSource, Stream
from gamengen.game import GameSpec
from gamengen.models import autoencoders
from gamengen.train.loop import Batch, Objective

NUM_SAMPLED_SHARDS, NUM_SAMPLED_CHUNKS, NUM_SAMPLED_FRAMES = 8, 64, 4  # about 4 frames of 64 chunks of 8 shards
MAX_SAMPLED_FRAMES = 512  # of them: they are in memory as float32, 0.5 GB of DOOM's


class _Reconstruction(nn.Module):
    """Reconstructs crops from latents with a little noise on them, which makes the decoder forgive the denoiser."""

    def __init__(self, autoencoder: autoencoders.Autoencoder, latent_noise: float) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.latent_noise = latent_noise

    def forward(self, images: Tensor, noise: Tensor | None) -> Tensor:
        latents = self.autoencoder.encode_raw(images)
        if noise is not None:
            latents = latents + self.latent_noise * noise
        return self.autoencoder.decode_raw(latents)


def objective(config: Config, game: GameSpec, shard_list: Sequence[str]) -> Objective:
    """Build the stage; crops are drawn from the rows that the autoencoder codes."""
    settings = config.train.autoencoder
    autoencoder = autoencoders.build(config.autoencoder.name, config.autoencoder.options)
    channels, rows, _ = autoencoder.latent_shape(game.height, game.width)
    top, factor = autoencoder.margins[0], autoencoder.factor
    crop = min(settings.crop, rows * factor)
    source = CropSource(crop, rows=(top, top + rows * factor))
    autoencoder.load_pretrained()
    autoencoder.initialise(sample_images(autoencoder, shard_list))
    stream = Stream(shard_list, source, config.seed, config.train.num_lanes, settings.batch_size)
    side = crop // factor

    def batches(step: int, rank: int, world: int) -> Iterator[Batch]:
        for crops in stream.batches(step, rank, world):
            yield (torch.from_numpy(np.stack(crops)),)

    def loss(network: nn.Module, batch: Batch, step: int, examples: slice) -> Tensor:
        images = autoencoders.to_images(batch[0])
        generator = torch.Generator(images.device).manual_seed(config.seed * 1_000_003 + step)
        shape = (settings.batch_size, channels, side, side)
        noise = torch.randn(shape, generator=generator, device=images.device)
        output = network(images, noise[examples]).float()
        return F.mse_loss(output, images) + settings.l1_weight * F.l1_loss(output, images)

    return Objective(_Reconstruction(autoencoder, settings.latent_noise), batches, loss)


def sample_images(autoencoder: autoencoders.Autoencoder, shard_list: Sequence[str]) -> Tensor:
    """Return some images [N, 3, rows, W] of the recorded play, without margins: the same ones at every call."""
    picked = shard_list[:: max(1, len(shard_list) // NUM_SAMPLED_SHARDS)]
    frames: list[np.ndarray] = []
    for shard in picked:
        for chunk in itertools.islice(shards.chunks(shard, "train"), NUM_SAMPLED_CHUNKS):
            every = max(1, len(chunk.frames) // NUM_SAMPLED_FRAMES)
            frames.append(chunk.frames[::every].copy())  # a view would keep all frames of the chunk
    top, bottom = autoencoder.margins
    stacked = torch.from_numpy(np.concatenate(frames))
    stacked = stacked[:: -(-len(stacked) // MAX_SAMPLED_FRAMES)]
    return autoencoders.to_images(stacked[:, top : stacked.shape[1] - bottom])


@torch.no_grad()
def set_statistics(autoencoder: autoencoders.Autoencoder, shard_list: Sequence[str]) -> None:
    """Measure the scale of the latents on some of the recorded play; who is pretrained has one already."""
    if autoencoder.is_pretrained:
        return
    images = sample_images(autoencoder, shard_list)
    autoencoder.set_statistics(torch.cat([autoencoder.encode_raw(part) for part in images.split(16)]))
