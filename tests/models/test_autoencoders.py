"""What every autoencoder keeps, and what makes the tiny one learn fast."""

from __future__ import annotations

import pkgutil

import pytest
import torch

from gamengen.models import autoencoders
from gamengen.models.autoencoders import tiny

# Settings that make an architecture small enough for a test; one without an entry is tested with its defaults.
SMALL = {
    "sd": {"channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 8, "tiny_channels": 8},
    "tiny": {"widths": [8, 8], "blocks": [1, 1], "margins": [8, 8]},
}
NAMES = sorted(module.name for module in pkgutil.iter_modules(autoencoders.__path__))


def _pictures(count: int, height: int = 64, width: int = 64) -> torch.Tensor:
    """Structured frames, uint8 [N, H, W, 3]: rectangles of two colours on a gradient."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.linspace(60, 200, width).expand(count, height, 3, width).movedim(-1, 2).clone()
    for frame in frames:
        for colour in ((30.0, 40.0, 50.0), (250.0, 200.0, 90.0)):
            y, x = torch.randint(0, 40, (2,), generator=generator).tolist()
            frame[y : y + 20, x : x + 14] = torch.tensor(colour)
    return frames.to(torch.uint8)


@pytest.fixture(params=NAMES)
def autoencoder(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    return autoencoders.build(request.param, SMALL.get(request.param, {})).eval()


@torch.no_grad()
def test_shapes_and_state_dict(autoencoder: torch.nn.Module) -> None:
    images = autoencoders.to_images(_pictures(2))
    latents = autoencoder.encode(images)
    assert tuple(latents.shape[1:]) == tuple(autoencoder.latent_shape(64, 64))
    assert autoencoder.decode(latents).shape == images.shape
    assert all(value.isfinite().all() for value in autoencoder.state_dict().values() if value.is_floating_point())


@torch.no_grad()
def test_one_picture_does_not_touch_another(autoencoder: torch.nn.Module) -> None:
    images = autoencoders.to_images(_pictures(3))
    alone = torch.cat([autoencoder.decode(autoencoder.encode(image[None])) for image in images])
    together = autoencoder.decode(autoencoder.encode(images))
    # Kernels sum in another order for another batch; a grey level is 8e-3.
    assert torch.allclose(alone, together, atol=1e-3)


def test_a_size_that_does_not_divide_is_refused(autoencoder: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="divide"):
        autoencoder.latent_shape(63, 64)


def test_uint8_goes_through_unharmed() -> None:
    frames = _pictures(2)
    assert torch.equal(autoencoders.to_frames(autoencoders.to_images(frames)), frames)
    images = autoencoders.to_images(torch.tensor([[[[0, 255, 128]]]], dtype=torch.uint8))
    assert images.flatten().tolist() == pytest.approx([-1.0, 1.0, 128 / 127.5 - 1], abs=1e-6)


def test_to_frames_clamps() -> None:
    assert autoencoders.to_frames(torch.tensor([[[[-3.0]], [[3.0]], [[0.0]]]])).flatten().tolist() == [0, 255, 128]


def test_unknown_names_and_settings_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'tiny'"):
        autoencoders.build("tinny", {})
    with pytest.raises(ValueError, match="did you mean 'factor'"):
        autoencoders.build("tiny", {"factors": 4})


@torch.no_grad()
def test_the_principal_components_are_a_good_start() -> None:
    torch.manual_seed(0)
    autoencoder = tiny.Autoencoder(tiny.Config(widths=(8, 8), blocks=(1, 1)))
    images = autoencoders.to_images(_pictures(16))
    mean_error = (images - images.mean(0)).square().mean()
    by_chance = (autoencoder.decode_raw(autoencoder.encode_raw(images)) - images).square().mean()
    autoencoder.initialise(images)
    error = (autoencoder.decode_raw(autoencoder.encode_raw(images)) - images).square().mean()
    assert error < 0.1 * mean_error
    assert error < 0.1 * by_chance


@torch.no_grad()
def test_statistics_give_unit_latents_and_change_no_picture() -> None:
    torch.manual_seed(0)
    autoencoder = tiny.Autoencoder(tiny.Config(widths=(8, 8), blocks=(1, 1)))
    images = autoencoders.to_images(_pictures(16))
    autoencoder.initialise(images)
    before = autoencoder.decode(autoencoder.encode(images))
    autoencoder.set_statistics(autoencoder.encode_raw(images))
    latents = autoencoder.encode(images)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert latents.square().mean().sqrt().item() == pytest.approx(1.0, abs=1e-2)
    assert torch.allclose(autoencoder.decode(latents), before, atol=1e-4)


@torch.no_grad()
def test_latents_out_of_bounds_are_brought_back() -> None:
    autoencoder = tiny.Autoencoder(tiny.Config(widths=(8, 8), blocks=(1, 1)))
    images = autoencoders.to_images(_pictures(4))
    autoencoder.initialise(images)
    autoencoder.set_statistics(autoencoder.encode_raw(images))
    wild = autoencoder.decode(torch.full((1, *autoencoder.latent_shape(64, 64)), 1e4))
    wilder = autoencoder.decode(torch.full((1, *autoencoder.latent_shape(64, 64)), 1e6))
    assert torch.equal(wild, wilder)


@torch.no_grad()
def test_margins_have_the_mean_colour_of_the_nearest_coded_row() -> None:
    torch.manual_seed(0)
    autoencoder = tiny.Autoencoder(tiny.Config(widths=(8, 8), blocks=(1, 1), margins=(8, 12)))
    assert autoencoder.latent_shape(64, 64)[1:] == (11, 16)
    images = autoencoder.decode(autoencoder.encode(autoencoders.to_images(_pictures(2))))
    above, below = images[:, :, 8:9].mean(3, keepdim=True), images[:, :, -13:-12].mean(3, keepdim=True)
    assert torch.allclose(images[:, :, :8], above.expand(-1, -1, 8, 64))
    assert torch.allclose(images[:, :, -12:], below.expand(-1, -1, 12, 64))
