"""What every denoiser keeps; the architectures are found, not listed."""

from __future__ import annotations

import pkgutil

import pytest
import torch

from gamengen.models import denoisers
from gamengen.models.diffusion import Schedule

# Settings that make an architecture small enough for a test; one without an entry is tested with its defaults.
SMALL = {
    "small_unet": {"patch": 2, "channels": [16, 16], "blocks": [1, 1], "embedding": 32, "heads": 2},
    "unet": {
        "channels": [16, 32],
        "attention": [True, False],
        "layers_per_block": 1,
        "heads": 2,
        "token_channels": 24,
        "norm_num_groups": 8,
    },
}
NAMES = sorted(module.name for module in pkgutil.iter_modules(denoisers.__path__))
CASES = {name: (name, SMALL.get(name, {})) for name in NAMES} | {
    "small_unet with a camera": ("small_unet", SMALL["small_unet"] | {"camera_steps": 1})
}
SHAPE, LENGTH, ACTIONS = (4, 8, 16), 3, 3


@pytest.fixture(params=CASES)
def denoiser(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    name, options = CASES[request.param]
    network = denoisers.build(name, options, num_actions=ACTIONS, latent_shape=SHAPE, context_length=LENGTH)
    with torch.no_grad():  # what begins at zero would hide what lies behind it
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def _inputs(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "noisy": torch.randn(batch, *SHAPE, generator=generator),
        "timestep": torch.randint(0, 1000, (batch,), generator=generator),
        "context": torch.randn(batch, LENGTH, *SHAPE, generator=generator),
        "actions": torch.randint(0, ACTIONS, (batch, LENGTH), generator=generator),
        "noise_level": torch.randint(0, 11, (batch,), generator=generator),
    }


def test_the_velocity_has_the_shape_of_the_latents(denoiser: torch.nn.Module) -> None:
    inputs = _inputs()
    assert denoiser(**inputs).shape == inputs["noisy"].shape


def test_the_gradient_reaches_every_parameter(denoiser: torch.nn.Module) -> None:
    inputs = _inputs(8)
    inputs["noise_level"] = torch.arange(8)
    denoiser(**inputs).square().mean().backward()
    without = [
        name for name, value in denoiser.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0
    ]
    assert without == []


@torch.no_grad()
def test_an_example_does_not_touch_another(denoiser: torch.nn.Module) -> None:
    inputs = _inputs(3)
    together = denoiser(**inputs)
    for index in range(3):
        alone = denoiser(**{name: value[index : index + 1] for name, value in inputs.items()})
        assert torch.allclose(alone[0], together[index], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["noisy", "timestep", "context", "actions", "noise_level"])
def test_it_looks_at_everything(denoiser: torch.nn.Module, name: str) -> None:
    inputs = _inputs()
    changed = inputs | {
        name: (inputs[name] + 1) % {"timestep": 1000, "actions": ACTIONS, "noise_level": 11}.get(name, 1e9)
    }
    assert not torch.allclose(denoiser(**inputs), denoiser(**changed), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("age", range(LENGTH))
def test_it_sees_every_action_and_frame_of_the_context(denoiser: torch.nn.Module, age: int) -> None:
    inputs = _inputs(1)
    before = denoiser(**inputs)
    for name in ("actions", "context"):
        changed = {key: value.clone() for key, value in inputs.items()}
        changed[name][:, age] = (changed[name][:, age] + 1) % (ACTIONS if name == "actions" else 1e9)
        assert not torch.allclose(before, denoiser(**changed), atol=1e-6), f"{name} at {age}"


@torch.no_grad()
def test_several_draws_of_a_window_are_as_many_windows(denoiser: torch.nn.Module) -> None:
    inputs, other = _inputs(), _inputs(4)
    drawn = inputs | {name: other[name] for name in ("noisy", "timestep")}
    apart = [
        denoiser(**inputs | {name: other[name][start : start + 2] for name in ("noisy", "timestep")})
        for start in (0, 2)
    ]
    assert torch.allclose(denoiser(**drawn), torch.cat(apart), atol=1e-4)


@torch.no_grad()
def test_half_precision_gives_about_the_same(denoiser: torch.nn.Module) -> None:
    inputs = _inputs()
    exact = denoiser(**inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = denoiser(**inputs).float()
    assert (exact - rough).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize("name", NAMES)
def test_latents_that_do_not_divide_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="divide"):
        denoisers.build(name, SMALL[name], num_actions=3, latent_shape=(4, 7, 16), context_length=LENGTH)


@torch.no_grad()
def test_fused_weights_give_the_same(denoiser: torch.nn.Module) -> None:
    inputs = _inputs()
    before = denoiser(**inputs)
    denoiser.fuse()
    denoiser.fuse()  # by a second engine of the same model
    assert torch.allclose(denoiser(**inputs), before, atol=1e-5)


@torch.no_grad()
def test_half_precision_weights_give_about_the_same(denoiser: torch.nn.Module) -> None:
    inputs = _inputs()
    exact = denoiser(**inputs)
    rough = denoiser.to(torch.bfloat16)(**inputs).float()
    assert (exact - rough).abs().mean() < 0.05 * exact.abs().mean()


def _with_a_camera() -> torch.nn.Module:
    name, options = CASES["small_unet with a camera"]
    return denoisers.build(name, options, num_actions=ACTIONS, latent_shape=SHAPE, context_length=LENGTH)


@torch.no_grad()
def test_with_a_camera_a_new_network_keeps_most_of_the_last_frame() -> None:
    network, inputs = _with_a_camera(), _inputs()
    kept = (network(**inputs) / -inputs["context"][:, -1]).mean()
    assert kept > 0.7
    assert torch.allclose(network(**inputs), -kept * inputs["context"][:, -1], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("timestep", [930, 600, 120])
def test_behind_a_closed_gate_the_moved_frame_stays_at_every_timestep(timestep: int) -> None:
    torch.manual_seed(0)
    network = _with_a_camera()
    schedule = Schedule.create(1000, 0.00085, 0.012, "scaled_linear", zero_terminal_snr=True)
    signal, sigma = schedule.scales(timestep)
    network.signal_to_noise.bias.fill_(signal / sigma)
    torch.nn.init.normal_(network.camera.movement[-1].weight)
    torch.nn.init.normal_(network.conv_out.weight)
    network.conv_out.bias[-4:] = -1000.0
    inputs = _inputs() | {"timestep": torch.full((2,), timestep)}
    *_, moved, _ = network.condition(inputs["context"], inputs["actions"], inputs["noise_level"])
    assert not torch.allclose(moved, inputs["context"][:, -1], atol=0.1)
    clean = schedule.clean(inputs["noisy"], network(**inputs), inputs["timestep"])
    assert torch.allclose(clean, moved, atol=1e-4)


@torch.no_grad()
def test_in_training_the_second_draw_is_the_head_s_own() -> None:
    torch.manual_seed(0)
    network = _with_a_camera().train()
    torch.nn.init.normal_(network.conv_out.weight)
    network.conv_out.bias[-4:] = -1000.0
    inputs = _inputs()
    twice = inputs | {name: torch.cat([inputs[name]] * 2) for name in ("noisy", "timestep")}
    mixed, own = network(**twice).chunk(2)
    assert torch.allclose(mixed, -inputs["context"][:, -1], atol=1e-5)
    network.conv_out.bias[-4:] = 1000.0
    assert torch.allclose(own, network(**inputs), atol=1e-4)
    assert not torch.allclose(own, mixed, atol=0.1)
    assert torch.allclose(network.eval()(**twice)[2:], own, atol=1e-4)


def test_fewer_than_no_steps_of_calibration_are_refused() -> None:
    with pytest.raises(ValueError, match="camera_steps, got -1"):
        denoisers.build("small_unet", {"camera_steps": -1}, num_actions=3, latent_shape=SHAPE, context_length=LENGTH)


def test_unknown_settings_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'channels'"):
        denoisers.build("small_unet", {"channel": [8]}, num_actions=3, latent_shape=SHAPE, context_length=LENGTH)
