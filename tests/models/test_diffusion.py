"""The schedule and the velocity against diffusers, and the noise augmentation against its definition."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from gamengen.models import diffusion
from gamengen.models.diffusion import Augmentation, Draws, Schedule

SETTINGS = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


def _both(zero: bool) -> tuple[Schedule, DDIMScheduler]:
    schedule = Schedule.create(**SETTINGS, zero_terminal_snr=zero)
    return schedule, DDIMScheduler(**SETTINGS, rescale_betas_zero_snr=zero, prediction_type="v_prediction")


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("kind", ["linear", "scaled_linear"])
def test_the_schedule_is_diffusers(zero: bool, kind: str) -> None:
    settings = SETTINGS | {"beta_schedule": kind}
    scheduler = DDIMScheduler(**settings, rescale_betas_zero_snr=zero)
    alpha_bar = Schedule.create(**settings, zero_terminal_snr=zero).alpha_bar
    assert torch.allclose(alpha_bar, scheduler.alphas_cumprod, atol=1e-6)


def test_an_unknown_schedule_is_refused() -> None:
    settings = SETTINGS | {"beta_schedule": "squaredcos_cap_v2"}
    with pytest.raises(ValueError, match="beta_schedule, got 'squaredcos_cap_v2'; expected linear"):
        Schedule.create(**settings, zero_terminal_snr=True)


@pytest.mark.parametrize("zero", [True, False])
def test_noise_and_velocity_equal_diffusers(zero: bool) -> None:
    schedule, scheduler = _both(zero)
    clean, noise = torch.randn(2, 5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timestep = torch.tensor([0, 1, 250, 700, 999])
    assert torch.allclose(
        schedule.add_noise(clean, noise, timestep), scheduler.add_noise(clean, noise, timestep), atol=1e-6
    )
    assert torch.allclose(
        schedule.velocity(clean, noise, timestep), scheduler.get_velocity(clean, noise, timestep), atol=1e-6
    )


def test_the_last_timestep_is_pure_noise_only_at_zero_snr() -> None:
    assert _both(True)[0].coefficients(torch.tensor([999]))[0].item() == pytest.approx(0.0, abs=1e-6)
    assert _both(False)[0].coefficients(torch.tensor([999]))[0].item() > 0.05


def test_clean_undoes_velocity() -> None:
    schedule = _both(True)[0]
    clean, noise = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timestep = torch.tensor([0, 300, 800, 999])
    noisy = schedule.add_noise(clean, noise, timestep)
    velocity = schedule.velocity(clean, noise, timestep)
    assert torch.allclose(schedule.clean(noisy, velocity, timestep), clean, atol=1e-5)


def test_a_denoiser_that_knows_the_velocity_has_no_loss() -> None:
    schedule = _both(True)[0]
    shape = (6, 3, 4, 8, 8)
    draws = Draws.sample(shape, 1000, (800, 400), 0.5, seed=0, num_draws=2)
    target = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    none = Augmentation(0.7, 10, 0.0, 0.0)

    def knows(noisy, timestep, context, actions, level):
        noise = draws.noise.transpose(0, 1).flatten(0, 1)
        return schedule.velocity(target.repeat(2, 1, 1, 1), noise, timestep)

    actions = torch.zeros(6, 3, dtype=torch.long)
    losses = diffusion.loss(knows, schedule, none, torch.zeros(shape), actions, target, draws)
    assert losses.shape == (6,)
    assert losses.max() < 1e-10

    def off_by_one(*inputs):
        return knows(*inputs) + 1

    off = diffusion.loss(off_by_one, schedule, none, torch.zeros(shape), actions, target, draws)
    assert torch.allclose(off, torch.ones(6), atol=1e-4)


def test_buckets() -> None:
    bucket = Augmentation(0.7, 10, 0.15, 0.1).bucket(torch.tensor([0.0, 1e-6, 0.069, 0.071, 0.69, 0.7]))
    assert bucket.tolist() == [0, 1, 1, 2, 10, 10]


def test_the_augmentation_adds_what_it_says() -> None:
    shape = (4000, 1, 1, 4, 4)
    draws = Draws.sample(shape, 1000, (800,), 0.5, seed=0)
    context, bucket = Augmentation(0.7, 10, 0.2, 0.0)(torch.zeros(shape), draws)
    deviation = context.flatten(1).std(1)
    assert (bucket == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert deviation[bucket == 0].max() == 0
    assert deviation[bucket == 10].mean().item() == pytest.approx(0.665, abs=0.03)
    assert deviation[bucket == 1].mean().item() == pytest.approx(0.035, abs=0.01)


def test_dropout_leaves_nothing_of_the_context() -> None:
    shape = (2000, 1, 1, 2, 2)
    draws = Draws.sample(shape, 1000, (800,), 0.5, seed=0)
    context, _ = Augmentation(0.7, 10, 0.0, 0.1)(torch.ones(shape), draws)
    dropped = (context.flatten(1) == 0).all(1).float().mean().item()
    assert dropped == pytest.approx(0.1, abs=0.03)


def test_blending_moves_some_contexts_towards_their_mean_by_any_share() -> None:
    shape = (1000, 2, 1, 1, 1)
    draws = Draws.sample(shape, 1000, (800,), 0.5, seed=3)
    context, bucket = Augmentation(0.7, 10, 1.0, 0.0, 0.3, 0.8)(
        torch.tensor([0.0, 2.0]).view(1, 2, 1, 1, 1).expand(shape), draws
    )
    share = context.flatten(1)[:, 0]  # from its own 0 to the mean, 1
    assert torch.allclose(context.flatten(1).sum(1), torch.full((1000,), 2.0)) and not bucket.any()
    assert 0.25 < (share > 0).float().mean() < 0.35
    assert 0.35 < share[share > 0].mean() < 0.45 and share.max() <= 0.8


def test_draws_are_a_function_of_the_seed_and_part_evenly() -> None:
    shape = (8, 2, 1, 2, 2)
    draws, again, other = (Draws.sample(shape, 1000, (800,), 0.5, seed) for seed in (1, 1, 2))
    assert all(torch.equal(value, vars(again)[name]) for name, value in vars(draws).items())
    assert not torch.equal(draws.noise, other.noise)
    parts = [draws.part(slice(start, start + 4)) for start in (0, 4)]
    for name, value in vars(draws).items():
        assert torch.equal(torch.cat([vars(part)[name] for part in parts]), value)


def test_timesteps_lie_where_sampling_goes() -> None:
    timestep = Draws.sample((4000, 1, 1, 1, 1), 1000, (800, 600, 400, 200), 0.6, seed=0).timestep
    assert timestep.min() >= 0 and timestep.max() == 800
    visited = torch.isin(timestep, torch.tensor([800, 600, 400, 200])).float().mean().item()
    assert visited == pytest.approx(0.6, abs=0.04)


def test_the_draws_of_a_window_visit_different_timesteps() -> None:
    timestep = Draws.sample((500, 1, 1, 1, 1), 1000, (800, 600, 400), 1.0, seed=0, num_draws=3).timestep
    assert all(sorted(row) == [400, 600, 800] for row in timestep.tolist())
    more = Draws.sample((500, 1, 1, 1, 1), 1000, (800, 600), 1.0, seed=0, num_draws=5).timestep
    assert all(len(set(row)) == 2 for row in more.tolist())


def test_offset_noise_shares_more_and_is_white_beside_it() -> None:
    white = torch.randn(2000, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    assert Schedule.create(**SETTINGS, zero_terminal_snr=True).noise(white) is white
    schedule = Schedule.create(**SETTINGS, zero_terminal_snr=True, noise_offset=0.3).to(torch.device("cpu"))
    noise = schedule.noise(white)
    shared, rest = noise.mean((2, 3), keepdim=True), noise - noise.mean((2, 3), keepdim=True)
    assert shared.std().item() == pytest.approx(0.3 + 128**-0.5, rel=0.05)
    assert torch.allclose(rest, white - white.mean((2, 3), keepdim=True), atol=1e-5)
    assert torch.corrcoef(shared.flatten(1).T).triu(1).abs().max() < 0.1  # each channel its own


@pytest.mark.parametrize("offset", [-0.1, float("inf"), float("nan")])
def test_an_offset_is_a_number_of_at_least_0(offset: float) -> None:
    with pytest.raises(ValueError, match="noise_offset, got"):
        Schedule.create(**SETTINGS, zero_terminal_snr=True, noise_offset=offset)
