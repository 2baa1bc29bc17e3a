"""Stable Diffusion's U-Net as a game's denoiser (GameNGen, section 3): any size, pretrained or from random weights.

What is new beside the pretrained network begins at zero or takes the place of the text, so that training starts from
its output: the context's latents stand on the channels of a widened first convolution, one learned token per context
action stands where the text's tokens stood, and the level of the context's noise has an embedding that is added to the
timestep's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from gamengen.models import denoisers, joined_layers, pretrained


@dataclass(frozen=True)
class Config:
    """The defaults are Stable Diffusion 1.4's sizes, 860M parameters.

    Attributes:
        pretrained: hub id or folder of a pipeline or of a UNet2DConditionModel; None starts from random weights.
        channels, attention: one entry per level, finest first; the middle always attends to the actions.
        heads: of every attention layer, whose channels divide by it.
        token_channels: of an action's token.
        gradient_checkpointing: compute activations again in the backward pass: slower, for far less memory.
    """

    pretrained: str | None = None
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    heads: int = 8
    token_channels: int = 768
    norm_num_groups: int = 32
    num_noise_buckets: int = 11
    gradient_checkpointing: bool = False


class Denoiser(denoisers.Denoiser):
    """See the package; the latents' sides must divide by 2 ** (levels - 1)."""

    def __init__(self, config: Config, num_actions: int, latent_shape: tuple[int, ...], context_length: int) -> None:
        super().__init__()
        self.config = config
        stride = 2 ** (len(config.channels) - 1)
        if latent_shape[1] % stride or latent_shape[2] % stride:
            raise ValueError(f"latents of {latent_shape[1:]} do not divide by {stride} (2 ** (levels - 1)).")
        if len(config.attention) != len(config.channels):
            raise ValueError(f"attention, got {config.attention}; expected one entry for each of {config.channels}.")
        self.unet = UNet2DConditionModel(
            in_channels=latent_shape[0] * (1 + context_length),
            out_channels=latent_shape[0],
            down_block_types=tuple("CrossAttnDownBlock2D" if has else "DownBlock2D" for has in config.attention),
            up_block_types=tuple("CrossAttnUpBlock2D" if has else "UpBlock2D" for has in config.attention[::-1]),
            block_out_channels=config.channels,
            layers_per_block=config.layers_per_block,
            attention_head_dim=config.heads,  # diffusers calls the number of heads so
            cross_attention_dim=config.token_channels,
            norm_num_groups=config.norm_num_groups,
            num_class_embeds=config.num_noise_buckets,
        )
        nn.init.zeros_(self.unet.class_embedding.weight)
        self.actions = nn.Embedding(num_actions, config.token_channels)
        self.positions = nn.Parameter(torch.empty(context_length, config.token_channels))
        for table in (self.actions.weight, self.positions):
            nn.init.normal_(table, std=0.5**0.5)  # a token has unit variance, as the text encoder's have
        self.keys_and_values: nn.Module = nn.Identity()  # of the tokens in all layers, once `fuse` has joined them
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.to(memory_format=torch.channels_last)

    def load_pretrained(self) -> None:
        """Take over the pretrained weights: kept for the noised latents, zero for the context and the noise level."""
        config, setting = self.config, "denoiser.options.pretrained"
        if config.pretrained is None:
            return
        loaded = pretrained.load(UNet2DConditionModel, config.pretrained, "unet", setting)
        channels = self.unet.config.out_channels
        sizes = {"block_out_channels": config.channels, "layers_per_block": config.layers_per_block}
        sizes |= {"attention_head_dim": config.heads, "cross_attention_dim": config.token_channels}
        pretrained.check_sizes(loaded.config, sizes | {"in_channels": channels}, config.pretrained, setting)
        state = loaded.state_dict()
        widened = torch.zeros(self.unet.conv_in.weight.shape)
        widened[:, :channels] = state["conv_in.weight"]
        state["conv_in.weight"] = widened
        state["class_embedding.weight"] = torch.zeros(self.unet.class_embedding.weight.shape)
        self.unet.load_state_dict(state, assign=True)  # no second copy of 3.4 GB
        self.to(memory_format=torch.channels_last)

    def fuse(self) -> None:
        """Join the projections of every attention layer to one matrix, and those of all layers that read the same: what
        becomes of the timestep and of the tokens. Once: a second engine of the same model finds it done."""
        if not isinstance(self.keys_and_values, nn.Identity):
            return
        self.unet.fuse_qkv_projections()
        modules = list(self.unet.modules())
        blocks = [module for module in modules if isinstance(module, ResnetBlock2D)]
        self._join_timestep(blocks)
        self._join_tokens([module for module in modules if isinstance(module, Attention) and module.is_cross_attention])

    def _join_timestep(self, blocks: Sequence[ResnetBlock2D]) -> None:
        joined, parts = joined_layers.join([block.time_emb_proj for block in blocks])
        self.unet.time_embed_act = nn.Sequential(nn.SiLU(), joined)
        for block, part in zip(blocks, parts, strict=True):
            block.time_emb_proj, block.skip_time_act = part, True

    def _join_tokens(self, layers: Sequence[Attention]) -> None:
        self.keys_and_values, parts = joined_layers.join([layer.to_kv for layer in layers])
        for layer, part in zip(layers, parts, strict=True):
            layer.to_kv = part

    def condition(self, context: Tensor, actions: Tensor, noise_level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the context on channels [B, L * C, h, w], the actions' tokens [B, L, D] (their keys and values for all
        layers if fused) and the noise's bucket [B]."""
        return context.flatten(1, 2), self.keys_and_values(self.actions(actions) + self.positions), noise_level

    def denoise(self, noisy: Tensor, timestep: Tensor, *condition: Tensor) -> Tensor:
        context, tokens, noise_level = condition
        sample = torch.cat([noisy, context], dim=1).to(self.positions.dtype, memory_format=torch.channels_last)
        return self.unet(sample, timestep, tokens, class_labels=noise_level).sample
