"""Stage `decoder`: goes on training the decoder alone, by mean squared error, so that small things such as a status bar
come out sharp (GameNGen, section 4.2). The encoder stays as it is, and with it all latents and denoisers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamengen.config import Config
from gamengen.data.stream import CropSource, Stream
from gamengen.game import GameSpec
from gamengen.models import autoencoders
from gamengen.train.loop import Batch, Objective


class Decoding(nn.Module):
    """Decodes raw latents; the parameters that it does not need for that are frozen."""

    def __init__(self, autoencoder: autoencoders.Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False)
        for part in autoencoder.decoder_parts():
            part.requires_grad_(True)

    def forward(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode_raw(latents)


def objective(
    config: Config, game: GameSpec, shard_list: Sequence[str], autoencoder: autoencoders.Autoencoder
) -> Objective:
    """Build the stage out of a trained autoencoder."""
    settings = config.train.decoder
    _, rows, _ = autoencoder.latent_shape(game.height, game.width)
    top, factor = autoencoder.margins[0], autoencoder.factor
    source = CropSource(min(settings.crop, rows * factor), rows=(top, top + rows * factor))
    stream = Stream(shard_list, source, config.seed + 1, config.train.num_lanes, settings.batch_size)

    def batches(step: int, rank: int, world: int) -> Iterator[Batch]:
        for crops in stream.batches(step, rank, world):
            yield (torch.from_numpy(np.stack(crops)),)

    def loss(network: nn.Module, batch: Batch, step: int, examples: slice) -> Tensor:
        images = autoencoders.to_images(batch[0])
        with torch.no_grad():
            latents = autoencoder.encode_raw(images)
        return F.mse_loss(network(latents).float(), images)

    return Objective(Decoding(autoencoder), batches, loss)


def same_encoder(one: autoencoders.Autoencoder, other: autoencoders.Autoencoder) -> bool:
    """Return whether two autoencoders make the same latents: all but the decoders' weights are equal."""
    tuned = {id(parameter) for part in one.decoder_parts() for parameter in part.parameters()}
    weights = other.state_dict(keep_vars=True)
    return all(
        name in weights and torch.equal(value, weights[name])
        for name, value in one.state_dict(keep_vars=True).items()
        if id(value) not in tuned
    )
