"""The stages' objectives on the data of the tests, with the networks that come before them."""

from __future__ import annotations

import torch

from gamengen.checkpoint import Model
from gamengen.config import Config
from gamengen.data import shards
from gamengen.train import autoencoder, decoder, denoiser, distill
from gamengen.train.loop import Objective


def build(config: Config, stage: str) -> Objective:
    """Build a stage with the same first weights whenever it is called."""
    game = config.game_spec()
    torch.manual_seed(0)
    if stage == "autoencoder":
        return autoencoder.objective(config, game, shards.find(f"{config.folder}/gameplay"))
    if stage == "decoder":
        trained = Model.from_pretrained(f"{config.folder}/autoencoder").autoencoder
        return decoder.objective(config, game, shards.find(f"{config.folder}/gameplay"), trained)
    latents = shards.find(f"{config.folder}/latents")
    if stage == "denoiser":
        return denoiser.objective(config, game, latents)
    teacher = denoiser.build(config, game, denoiser.latent_shape(config, game))
    with torch.no_grad():
        for parameter in teacher.parameters():  # there are zeros, behind which nothing would learn
            parameter.add_(0.05 * torch.randn_like(parameter))
    return distill.objective(config, game, latents, teacher)
