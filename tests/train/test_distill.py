"""Distillation: matching a distribution gives its modes where regression gives their mean; all networks resume."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from gamengen.config import DistillStage
from gamengen.data import shards
from gamengen.models.denoisers import Denoiser
from gamengen.models.diffusion import Augmentation, Draws, Schedule
from gamengen.models.sampler import Sampler
from gamengen.train import denoiser as denoiser_stage
from gamengen.train import distill
from gamengen.train.distill import Distillation, Student
from gamengen.train.loop import fit

SCHEDULE = Schedule.create(1000, 0.00085, 0.012, "scaled_linear", True)
MODES = torch.tensor([[1.5, 0.0], [-1.5, 0.0]])
START, BATCH = 930, 256


class Bimodal(Denoiser):
    """Knows the velocity of two narrow Gaussians."""

    def denoise(self, noisy: Tensor, timestep: Tensor, *condition: Tensor) -> Tensor:
        signal, sigma = (scale.flatten(1) for scale in SCHEDULE.coefficients(timestep))
        variance = 0.01 * signal**2 + sigma**2
        distance = noisy.flatten(1)[:, None] - signal[:, None] * MODES
        likely = torch.softmax(-distance.square().sum(2) / (2 * variance), 1)
        means = MODES + (0.01 * signal / variance)[:, None] * distance
        clean = (likely[:, :, None] * means).sum(1)
        return (signal * noisy.flatten(1) - clean).div(sigma.clamp_min(1e-4)).view_as(noisy)


class Small(Denoiser):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def denoise(self, noisy: Tensor, timestep: Tensor, *condition: Tensor) -> Tensor:
        angles = timestep[:, None] / 1000 * math.pi * torch.tensor([1.0, 2.0, 4.0])
        return self.layers(torch.cat([noisy.flatten(1), angles.sin(), angles.cos()], 1)).view_as(noisy)


class Unpaired(Sampler):
    """A teacher whose noise tells a student nothing: what happens is beyond what regression can learn."""

    def solve(self, denoiser: Denoiser, context: Tensor, actions: Tensor, noise: Tensor, bucket: Tensor) -> Tensor:
        return super().solve(denoiser, context, actions, torch.randn_like(noise), bucket)


def _settings(made, **changes: object) -> DistillStage:
    return dataclasses.replace(made.train.distill, max_noise_level=0.0, fake_score_steps=2, **changes)


def _distilled(settings: DistillStage) -> Tensor:
    """Distil the two modes and return what the student makes of some noise, [N, 2]."""
    torch.manual_seed(0)
    sampler = Unpaired(SCHEDULE, Augmentation(0.7, 10, 1.0, 0.0), (930, 750, 600, 400, 200))
    student = Student(Small(), Small())
    stage = Distillation(settings, sampler, START, Bimodal(), student)
    optimizer = torch.optim.AdamW(student.parameters(), 3e-3, betas=(0.9, 0.99), weight_decay=0.0)
    context, actions = torch.zeros(BATCH, 1, 2, 1, 1), torch.zeros(BATCH, 1, dtype=torch.long)
    for step in range(settings.steps):
        draws = Draws.sample(context.shape, 1000, (START,), 0.0, step, 2)
        loss = stage.loss(student, context, actions, draws, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noise, start = torch.randn(1000, 2, 1, 1), torch.full((1000,), START)
    with torch.no_grad():
        past = noise[:, None], torch.zeros(1000, 1, dtype=torch.long), torch.zeros(1000, dtype=torch.long)
        return SCHEDULE.clean(noise, student.generator(noise, start, *past), start).flatten(1)


def test_matching_finds_the_modes_where_regression_gives_their_mean(made) -> None:
    mean = _distilled(_settings(made, steps=200, matching_steps=0, regression_weight=1.0))
    assert mean.norm(dim=1).mean() < 0.5
    made_up = _distilled(_settings(made, steps=1000, matching_steps=800, regression_weight=0.0))
    distance, nearest = torch.cdist(made_up, MODES).min(1)
    assert distance.mean() < 0.6
    assert 0.2 < nearest.float().mean() < 0.8


def test_the_teacher_is_the_mixture() -> None:
    clean = MODES[torch.arange(64) % 2].view(64, 2, 1, 1)
    noise, timestep = torch.randn(64, 2, 1, 1), torch.full((64,), 100)
    velocity = Bimodal().denoise(SCHEDULE.add_noise(clean, noise, timestep), timestep)
    assert (velocity - SCHEDULE.velocity(clean, noise, timestep)).square().mean() < 0.1


@pytest.mark.parametrize("step", [0, 1, 3])  # regression, the fake-score network's turn, the generator's
def test_draws_of_a_window_are_windows_of_one_draw(made, step: int) -> None:
    torch.manual_seed(0)
    settings = _settings(made, steps=4, matching_steps=3)
    sampler = Sampler(SCHEDULE, Augmentation(0.7, 10, 1.0, 0.0), (930, 600))
    student = Student(Small(), Small())
    stage = Distillation(settings, sampler, START, Bimodal(), student)
    context, actions = torch.zeros(3, 1, 2, 1, 1), torch.zeros(3, 1, dtype=torch.long)
    draws = Draws.sample(context.shape, 1000, (START,), 0.0, 0, 4)

    def of(*columns: int) -> Draws:
        columns = list(columns)
        return dataclasses.replace(draws, noise=draws.noise[:, columns], timestep=draws.timestep[:, columns])

    with torch.no_grad():
        together = stage.loss(student, context, actions, draws, step)
        apart = [stage.loss(student, context, actions, of(draw, draw + 2), step) for draw in (0, 1)]
    assert torch.allclose(together, torch.stack(apart).mean(), rtol=1e-5)


def test_student_and_teacher_begin_with_the_same_noise(made) -> None:
    torch.manual_seed(0)
    schedule = dataclasses.replace(SCHEDULE, offset=0.5)
    sampler, teacher = Sampler(schedule, Augmentation(0.7, 10, 1.0, 0.0), (START,)), Small()
    stage = Distillation(_settings(made, steps=1, matching_steps=0), sampler, START, teacher, Student(teacher, None))
    context, actions = torch.zeros(3, 1, 2, 1, 1), torch.zeros(3, 1, dtype=torch.long)
    draws = Draws.sample(context.shape, 1000, (START,), 0.0, 0, 2)
    assert stage.loss(stage.student, context, actions, draws, 0).item() == 0


def test_networks_take_turns(made) -> None:
    settings = _settings(made, steps=9, matching_steps=6)
    student = Student(Small(), Small())
    stage = Distillation(settings, None, START, Bimodal(), student)
    turns = ["generator"] * 3 + ["fake_score", "fake_score", "generator"] * 2
    assert [stage.part(step) for step in range(9)] == turns


def test_all_networks_resume(made) -> None:
    stage = dataclasses.replace(
        made.train.distill, steps=6, matching_steps=5, checkpoint_every=3, log_every=1, guidance_scale=1.5
    )
    config = dataclasses.replace(made, train=dataclasses.replace(made.train, distill=stage))
    game = config.game_spec()

    def train(state=None):
        torch.manual_seed(0)
        teacher = denoiser_stage.build(config, game, denoiser_stage.latent_shape(config, game))
        with torch.no_grad():
            for parameter in teacher.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        objective = distill.objective(config, game, shards.find(f"{config.folder}/latents"), teacher)
        first = {name: value.clone() for name, value in objective.network.state_dict().items()}
        states, lines = {}, []

        def save(step: int, get_state) -> None:
            state = get_state()
            states[step] = torch.load(_written(state), weights_only=True)

        weights = fit(
            objective, stage, device=torch.device("cpu"), state=state, save=save, report=lambda line: lines.append(line)
        )
        return first, weights, states, [line.loss for line in lines]

    first, straight, states, losses = train()
    _, resumed, _, late = train(states[3])
    assert losses[3:] == late
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())
    for part in ("generator.", "fake_score."):
        assert any(not torch.equal(first[name], straight[name]) for name in first if name.startswith(part))


def _written(state):
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file
