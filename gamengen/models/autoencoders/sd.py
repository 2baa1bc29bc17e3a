"""Stable Diffusion's autoencoder (AutoencoderKL), pretrained or smaller and from scratch, and TAESD's small decoder.

At 320x256 pixels Stable Diffusion's decoder takes 778 GFLOP, three passes of its U-Net, and TAESD's 44: where one step
makes a frame, the decoder decides how fast the game is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

from gamengen.models import autoencoders, pretrained


@dataclass(frozen=True)
class Config:
    """The defaults are Stable Diffusion's sizes; the factor is 2 ** (levels - 1).

    Attributes:
        pretrained: hub id or folder of a pipeline or of an AutoencoderKL; None starts from random weights.
        channels: of the encoder and of `kl`'s decoder, finest level first.
        scaling_factor: latents are the encoder's means times this; measured in training where nothing is pretrained.
        decoder: "kl", or "tiny" for a convolutional one of constant width that reads the same latents.
        tiny_pretrained: hub id (madebyollin/taesd) or folder of an AutoencoderTiny.
    """

    pretrained: str | None = None
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    latent_channels: int = 4
    scaling_factor: float = 0.18215
    decoder: Literal["kl", "tiny"] = "kl"
    tiny_pretrained: str | None = None
    tiny_channels: int = 64


class Autoencoder(autoencoders.Autoencoder):
    """See the package; images and latents may be of any size that divides."""

    margins = (0, 0)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.decoder not in ("kl", "tiny"):
            raise ValueError(f"decoder, got {config.decoder!r}; expected kl or tiny.")
        self.config = config
        levels = len(config.channels)
        self.factor = 2 ** (levels - 1)
        self.vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.channels,
            layers_per_block=config.layers_per_block,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_num_groups,
        )
        if config.decoder == "tiny":
            del self.vae.decoder, self.vae.post_quant_conv
            self.tiny_decoder = AutoencoderTiny(
                encoder_block_out_channels=(config.tiny_channels,) * levels,
                decoder_block_out_channels=(config.tiny_channels,) * levels,
                num_encoder_blocks=(1,) * levels,
                num_decoder_blocks=(3,) * (levels - 1) + (1,),
                latent_channels=config.latent_channels,
            ).decoder
        self.register_buffer("scaling_factor", torch.tensor(config.scaling_factor))
        self.to(memory_format=torch.channels_last)

    @property
    def is_pretrained(self) -> bool:
        return self.config.pretrained is not None

    def load_pretrained(self) -> None:
        config = self.config
        if config.pretrained is not None:
            setting = "autoencoder.options.pretrained"
            vae = pretrained.load(AutoencoderKL, config.pretrained, "vae", setting)
            sizes = {"block_out_channels": config.channels, "layers_per_block": config.layers_per_block}
            sizes |= {"latent_channels": config.latent_channels, "scaling_factor": config.scaling_factor}
            pretrained.check_sizes(vae.config, sizes, config.pretrained, setting)
            if config.decoder == "tiny":
                del vae.decoder, vae.post_quant_conv
            self.vae.load_state_dict(vae.state_dict(), assign=True)
        if config.tiny_pretrained is not None and config.decoder == "tiny":
            setting = "autoencoder.options.tiny_pretrained"
            tiny = pretrained.load(AutoencoderTiny, config.tiny_pretrained, None, setting)
            sizes = {"decoder_block_out_channels": (config.tiny_channels,) * len(config.channels)}
            sizes |= {"latent_channels": config.latent_channels}
            pretrained.check_sizes(tiny.config, sizes, config.tiny_pretrained, setting)
            self.tiny_decoder.load_state_dict(tiny.decoder.state_dict(), assign=True)
        self.to(memory_format=torch.channels_last)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"{height} rows and {width} columns cannot be coded with factor {self.factor}; both must divide by it. "
                "Set the game's padding, or other autoencoder.options.channels."
            )
        return self.config.latent_channels, height // self.factor, width // self.factor

    def encode_raw(self, images: Tensor) -> Tensor:
        return self.vae.encode(images.to(self._dtype)).latent_dist.mean

    def decode_raw(self, latents: Tensor) -> Tensor:
        if self.config.decoder == "tiny":
            return self.tiny_decoder((latents * self.scaling_factor).to(self._dtype))
        return self.vae.decode(latents.to(self._dtype)).sample

    def decoder_parts(self) -> list[nn.Module]:
        return [self.tiny_decoder] if self.config.decoder == "tiny" else [self.vae.post_quant_conv, self.vae.decoder]

    def encode(self, images: Tensor) -> Tensor:
        return self.encode_raw(images).float() * self.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_raw(latents / self.scaling_factor)

    @torch.no_grad()
    def set_statistics(self, raw_latents: Tensor) -> None:
        if not self.is_pretrained:
            self.scaling_factor.fill_(1 / raw_latents.float().std().clamp_min(1e-3))

    @property
    def _dtype(self) -> torch.dtype:
        return self.vae.quant_conv.weight.dtype
