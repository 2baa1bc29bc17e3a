"""Stage `autoencoder`: learns to reconstruct random crops of recorded frames, from scratch."""

from __future__ import annotations

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
from gamengen.train.loop import Objective

NUM_STATISTICS_FRAMES = 256


class _Reconstruction(nn.Module):
    """Reconstructs crops from latents with a little noise on them, which makes the decoder forgive the denoiser."""

    def __init__(self, autoencoder: nn.Module, latent_noise: float) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.latent_noise = latent_noise

    def forward(self, images: Tensor, noise: Tensor | None) -> Tensor:
        latents = self.autoencoder.encode_raw(images)
        if noise is not None:
            latents = latents + self.latent_noise * noise
        return self.autoencoder.decode_raw(latents)


def objective(config: Config, game: GameSpec, shard_list: Sequence[str], rank: int, world: int) -> Objective:
    """Build the stage for one of `world` workers; crops are drawn from the rows that the autoencoder codes."""
    settings = config.train.autoencoder
    autoencoder = autoencoders.build(config.autoencoder.name, config.autoencoder.options)
    channels, rows, _ = autoencoder.latent_shape(game.height, game.width)
    top = config.autoencoder.options.get("margins", (0, 0))[0]
    factor = autoencoder.config.factor
    crop = min(settings.crop, rows * factor)
    source = CropSource(crop, rows=(top, top + rows * factor))
    stream = Stream(shard_list, source, config.seed, config.train.num_lanes, settings.batch_size)
    side = crop // factor

    def batches(step: int) -> Iterator[Tensor]:
        for crops in stream.batches(step, rank, world):
            yield torch.from_numpy(np.stack(crops))

    def loss(network: nn.Module, frames: Tensor, step: int) -> Tensor:
        images = autoencoders.to_images(frames)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        noise = torch.randn(settings.batch_size, channels, side, side, generator=generator)
        share = settings.batch_size // world
        output = network(images, noise[rank * share : (rank + 1) * share].to(images.device)).float()
        return F.mse_loss(output, images) + settings.l1_weight * F.l1_loss(output, images)

    return Objective(_Reconstruction(autoencoder, settings.latent_noise), batches, loss)


@torch.no_grad()
def set_statistics(autoencoder: nn.Module, shard_list: Sequence[str]) -> None:
    """Measure mean and deviation of the latents on some frames of the recorded play."""
    frames: list[np.ndarray] = []
    for episode in shards.episodes(shard_list, "train"):
        frames.append(episode.frames[:: max(1, len(episode) // 16)])
        if sum(map(len, frames)) >= NUM_STATISTICS_FRAMES:
            break
    top, bottom = autoencoder.config.margins
    images = autoencoders.to_images(torch.from_numpy(np.concatenate(frames)[:NUM_STATISTICS_FRAMES]))
    raw = [autoencoder.encode_raw(part[:, :, top : part.shape[2] - bottom]) for part in images.split(16)]
    autoencoder.set_statistics(torch.cat(raw))
