"""Stable Diffusion's weights: what is taken over from a folder in diffusers' format, and what a missing one says.

The folders are made here, with random weights of small sizes; nothing is downloaded.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

from gamengen.models import autoencoders, denoisers

CODER = {"channels": [8, 8, 8, 16], "layers_per_block": 1, "norm_num_groups": 8, "tiny_channels": 8}
UNET = {"channels": [16, 32], "attention": [True, False], "layers_per_block": 1, "heads": 2, "token_channels": 24}
UNET |= {"norm_num_groups": 8}
SHAPE, LENGTH = (4, 8, 16), 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline's folder, as Stable Diffusion's, and beside it a TAESD's."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("stable-diffusion")
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(**levels, block_out_channels=(8, 8, 8, 16), layers_per_block=1, norm_num_groups=8).save_pretrained(
        path / "vae"
    )
    blocks = {"num_encoder_blocks": (1, 1, 1, 1), "num_decoder_blocks": (3, 3, 3, 1)}
    widths = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    AutoencoderTiny(**blocks, **widths).save_pretrained(path / "taesd")
    unet().save_pretrained(path / "unet")
    return path


def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=24,
        norm_num_groups=8,
    )


def _denoiser(**options: Any) -> denoisers.Denoiser:
    denoiser = denoisers.build("unet", UNET | options, num_actions=3, latent_shape=SHAPE, context_length=LENGTH)
    denoiser.load_pretrained()
    return denoiser.eval()


def _coder(**options: Any) -> autoencoders.Autoencoder:
    autoencoder = autoencoders.build("sd", CODER | options)
    autoencoder.load_pretrained()
    return autoencoder


@torch.no_grad()
def test_widened_at_step_0_it_is_the_pretrained_network(folder: Path) -> None:
    denoiser = _denoiser(pretrained=str(folder))
    original = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False).eval()
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, *SHAPE, generator=generator)
    timestep, actions = torch.tensor([900, 17]), torch.randint(0, 3, (2, LENGTH), generator=generator)
    context, level = torch.randn(2, LENGTH, *SHAPE, generator=generator), torch.tensor([0, 7])
    tokens = denoiser.condition(context, actions, level)[1]
    assert tokens.shape == (2, LENGTH, 24)
    expected = original(noisy, timestep, tokens).sample
    assert expected.abs().mean() > 0.1
    assert torch.allclose(denoiser(noisy, timestep, context, actions, level), expected, atol=1e-5)


def test_everything_that_is_new_learns(folder: Path) -> None:
    """Zeros in the way of a gradient would stay zeros."""
    denoiser = _denoiser(pretrained=str(folder))
    noisy, context = torch.randn(2, *SHAPE), torch.randn(2, LENGTH, *SHAPE)
    actions, level = torch.tensor([[0, 1, 2], [2, 1, 0]]), torch.tensor([0, 7])
    denoiser(noisy, torch.tensor([900, 17]), context, actions, level).square().mean().backward()
    widened = denoiser.unet.conv_in.weight.grad
    assert (widened.flatten(2).abs().sum((0, 2)) > 0).all()
    assert denoiser.unet.class_embedding.weight.grad[[0, 7]].abs().sum(1).min() > 0
    assert denoiser.actions.weight.grad.abs().sum(1).min() > 0
    assert denoiser.positions.grad.abs().sum(1).min() > 0


@pytest.mark.parametrize("form", ["fp16", "sharded", "the network's own folder"])
@torch.no_grad()
def test_other_forms_of_the_folder(folder: Path, tmp_path: Path, form: str) -> None:
    original = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    if form == "fp16":
        original.half().save_pretrained(tmp_path / "unet", variant="fp16")
    elif form == "sharded":
        original.save_pretrained(tmp_path / "unet", max_shard_size="100KB")
        assert len(list((tmp_path / "unet").glob("*.safetensors"))) > 1
    else:
        original.save_pretrained(tmp_path)
    loaded, expected = _denoiser(pretrained=str(tmp_path)).unet.state_dict(), original.state_dict()
    for name, value in expected.items():
        found = loaded[name][:, :4] if name == "conv_in.weight" else loaded[name]
        assert found.dtype == torch.float32 and torch.equal(found, value.float()), name


@torch.no_grad()
def test_the_autoencoder_is_diffusers_times_its_scale(folder: Path) -> None:
    autoencoder = _coder(pretrained=str(folder))
    original = AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False)
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    latents = autoencoder.encode(images)
    assert latents.shape[1:] == autoencoder.latent_shape(32, 48) == (4, 4, 6)
    assert torch.allclose(latents, original.encode(images).latent_dist.mean * 0.18215, atol=1e-5)
    assert torch.allclose(autoencoder.decode(latents), original.decode(latents / 0.18215).sample, atol=1e-4)
    autoencoder.set_statistics(torch.randn(4, 4, 8, 8))
    assert autoencoder.scaling_factor.item() == pytest.approx(0.18215), "the denoiser knows the pretrained scale"


@torch.no_grad()
def test_the_tiny_decoder_reads_the_same_latents(folder: Path) -> None:
    options = {"pretrained": str(folder), "decoder": "tiny", "tiny_pretrained": str(folder / "taesd")}
    autoencoder = _coder(**options)
    whole = _coder(pretrained=str(folder))
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    latents = autoencoder.encode(images)
    assert torch.allclose(latents, whole.encode(images), atol=1e-6)
    taesd = AutoencoderTiny.from_pretrained(folder / "taesd", low_cpu_mem_usage=False)
    assert torch.allclose(autoencoder.decode(latents), taesd.decode(latents).sample, atol=1e-5)
    assert not any(name.startswith("vae.decoder") for name in autoencoder.state_dict())


@torch.no_grad()
def test_without_pretrained_weights_the_scale_is_measured() -> None:
    autoencoder = _coder()
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    autoencoder.set_statistics(autoencoder.encode_raw(images))
    assert autoencoder.encode(images).std().item() == pytest.approx(1.0, abs=1e-3)


def test_weights_out_of_reach_are_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for source, (build, name) in itertools.product(
        ("CompVis/stable-diffusion-v1-4", str(tmp_path)),
        ((_denoiser, "denoiser"), (_coder, "autoencoder")),
    ):
        with pytest.raises(ValueError) as caught:
            build(pretrained=source)
        message = str(caught.value)
        assert "\n" not in message and f"{name}.options.pretrained={source!r}" in message
        assert "hf download" in message and f"{name}.options.pretrained=null" in message


def test_other_sizes_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"cross_attention_dim 24, got 32 from the config"):
        _denoiser(pretrained=str(folder), token_channels=32)
    with pytest.raises(ValueError, match=r"scaling_factor 0.18215, got 0.2 from the config"):
        _coder(pretrained=str(folder), scaling_factor=0.2)
