"""The sampler against diffusers' DDIM, step by step, and its guidance against two passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from gamengen.models import denoisers
from gamengen.models.diffusion import Augmentation, Schedule
from gamengen.models.sampler import Sampler

SHAPE, LENGTH = (4, 8, 8), 3
BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULE = Schedule.create(**BETAS, zero_terminal_snr=True)
AUGMENTATION = Augmentation(0.7, 10, 0.15, 0.1)


@pytest.fixture(scope="module")
def denoiser() -> torch.nn.Module:
    torch.manual_seed(0)
    options = {"channels": [16], "blocks": [1], "embedding": 32, "heads": 2}
    network = denoisers.build("small_unet", options, num_actions=3, latent_shape=SHAPE, context_length=LENGTH)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(2, LENGTH, *SHAPE, generator=generator)
    actions = torch.randint(0, 3, (2, LENGTH), generator=generator)
    return context, actions, torch.randn(2, *SHAPE, generator=generator)


class _Calls(denoisers.Denoiser):
    """A denoiser that is a function of what `forward` gets."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def denoise(self, noisy: torch.Tensor, timestep: torch.Tensor, *condition: torch.Tensor) -> torch.Tensor:
        return self.function(noisy, timestep, *condition)


def _sampler(timesteps: tuple[int, ...], **settings: Any) -> Sampler:
    return Sampler(SCHEDULE, AUGMENTATION, timesteps, **settings)


@torch.no_grad()
@pytest.mark.parametrize("timesteps", [(999, 749, 499, 249), (800, 600, 400, 200), (999,), (700, 100)])
def test_it_is_diffusers_ddim(denoiser, inputs, timesteps: tuple[int, ...]) -> None:
    """diffusers steps evenly, from t to t - num_train_timesteps / num_inference_steps: each step gets its own."""
    context, actions, x = inputs
    level = torch.zeros(2, dtype=torch.long)
    scheduler = DDIMScheduler(
        **BETAS, rescale_betas_zero_snr=True, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=True
    )
    sampled = _sampler(timesteps)(denoiser, context, actions, x)
    for timestep, following in zip(timesteps, (*timesteps[1:], -1), strict=True):
        scheduler.num_inference_steps = 1
        scheduler.register_to_config(num_train_timesteps=timestep - following)
        velocity = denoiser(x, torch.full((2,), timestep), context, actions, level)
        x = scheduler.step(velocity, timestep, x, eta=0.0).prev_sample
    assert torch.allclose(sampled, x, atol=1e-4)


@torch.no_grad()
def test_guidance_in_one_batch_is_two_passes(denoiser, inputs) -> None:
    context, actions, noise = inputs
    calls = []

    def counted(x, *rest):
        calls.append(len(x))
        return denoiser(x, *rest)

    guided = _sampler((900, 300), guidance_scale=1.5)(_Calls(counted), context, actions, noise)
    assert calls == [4, 4]

    def in_two_passes(x, t, given, played, level):
        with_context = denoiser(x, t, given, played, level)
        without = denoiser(x, t, torch.zeros_like(given), played, level)
        return without + 1.5 * (with_context - without)

    assert torch.allclose(guided, _sampler((900, 300))(_Calls(in_two_passes), context, actions, noise), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_several_noises_for_a_past_are_the_past_several_times(denoiser, inputs, scale: float) -> None:
    context, actions, noise = inputs
    noises, bucket = torch.cat([noise, noise.flip(-1)]), torch.zeros(2, dtype=torch.long)
    sampler = _sampler((900, 300), guidance_scale=scale)
    together = sampler.solve(denoiser, context, actions, noises, bucket)
    apart = [sampler.solve(denoiser, context, actions, part, bucket) for part in noises.chunk(2)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)
    timestep = torch.full((4,), 500)
    velocity = sampler.predict(denoiser, noises, timestep, context, actions, bucket)
    apart = [sampler.predict(denoiser, part, timestep[:2], context, actions, bucket) for part in noises.chunk(2)]
    assert torch.allclose(velocity, torch.cat(apart), atol=1e-5)


@torch.no_grad()
def test_the_true_velocity_leads_to_the_truth(inputs) -> None:
    context, actions, noise = inputs
    clean = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(5))

    def knows(x, t, *_):
        signal, sigma = SCHEDULE.coefficients(t)
        return (signal * x - clean) / sigma

    assert torch.allclose(_sampler((800, 500, 200))(_Calls(knows), context, actions, noise), clean, atol=1e-4)


@torch.no_grad()
def test_the_context_noise_is_told_and_each_player_s_own(inputs) -> None:
    context, actions, noise = inputs
    seen = []

    def looks(x, t, given, played, level):
        seen.append((given, level))
        return torch.zeros_like(x)

    sampler = _sampler((800,), noise_level=0.35)
    sampler(_Calls(looks), context, actions, noise)
    sampler(_Calls(looks), context[1:], actions[1:], noise[1:])
    assert seen[0][1].tolist() == [6, 6]
    added = seen[0][0] - context
    assert added.std().item() == pytest.approx(0.35, abs=0.03)
    assert torch.equal(seen[0][0][1], seen[1][0][0])


@torch.no_grad()
def test_the_past_is_read_once_a_frame(denoiser, inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    read, condition = [], denoiser.condition
    monkeypatch.setattr(denoiser, "condition", lambda *past: read.append(past) or condition(*past))
    _sampler((900, 600, 300))(denoiser, *inputs)
    assert len(read) == 1


@torch.no_grad()
def test_the_noise_has_its_scale_at_every_timestep(inputs) -> None:
    context, actions, noise = inputs
    schedule = _sampler((900, 600, 300)).schedule
    clean, seen = torch.ones_like(noise), []

    def knows(x, t, *_):
        seen.append(x)
        signal, sigma = schedule.coefficients(t)
        return (signal * x - clean) / sigma

    scales = (1.3, 2.0, 1.0)
    result = _sampler((900, 600, 300), noise_scales=scales)(_Calls(knows), context, actions, noise)
    assert torch.allclose(result, clean, atol=1e-4)
    assert torch.allclose(seen[0], 1.3 * noise)
    for step, factor in ((0, 2.0 / 1.3), (1, 1.0 / 2.0)):
        before, after = (schedule.coefficients(torch.tensor([t])) for t in ((900, 600, 300)[step], (600, 300)[step]))
        predicted_noise = (seen[step] - before[0] * clean) / before[1]
        assert torch.allclose(seen[step + 1], after[0] * clean + factor * after[1] * predicted_noise, atol=1e-4)


@pytest.mark.parametrize("scales", [(1.3,), (1.0, 1.0, 1.0), (1.0, 0.0)])
def test_every_timestep_has_a_noise_scale(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="noise_scales"):
        _sampler((900, 300), noise_scales=scales)


@pytest.mark.parametrize("timesteps", [(), (200, 400), (400, 400), (1000, 500), (500, -1)])
def test_timesteps_must_fall(timesteps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="timesteps must fall"):
        _sampler(timesteps)


@torch.no_grad()
@pytest.mark.parametrize(
    ("first", "offset", "fewest", "most"), [(930, 0.0, 0.5, 1.0), (999, 0.0, 0.0, 0.02), (999, 0.1, 0.1, 0.3)]
)
def test_how_often_a_frame_has_a_rare_tint(first: int, offset: float, fewest: float, most: float) -> None:
    """A fifth of all frames are of -0.5 throughout, the others of 1, and the denoiser is the best there is."""
    schedule = Schedule.create(**BETAS, zero_terminal_snr=True, noise_offset=offset)
    tints, shares, shape = torch.tensor([1.0, -0.5]), torch.tensor([0.8, 0.2]), (1, 64, 80)
    shared = offset + (shape[1] * shape[2]) ** -0.5  # the deviation of the noise's mean

    def knows(x, t, *_):
        signal, sigma = (scale.flatten() for scale in schedule.coefficients(t))
        distance = (x.mean((1, 2, 3))[:, None] - signal[:, None] * tints) / (sigma[:, None] * shared)
        clean = ((shares.log() - distance.square() / 2).softmax(1) * tints).sum(1)
        return (signal[:, None, None, None] * x - clean[:, None, None, None]) / sigma[:, None, None, None]

    sampler = Sampler(schedule, AUGMENTATION, (first, 850, 750, 600, 300))
    noise = torch.randn(400, *shape, generator=torch.Generator().manual_seed(0))
    context, actions = torch.zeros(400, LENGTH, *shape), torch.zeros(400, LENGTH, dtype=torch.long)
    rare = (sampler(_Calls(knows), context, actions, noise).mean((1, 2, 3)) < 0.25).float().mean().item()
    assert fewest <= rare <= most
