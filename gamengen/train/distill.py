"""Stage `distill`: one step in place of the teacher's several, by regression and by distribution matching (GameNGen,
section A.6; Yin et al., "One-step Diffusion with Distribution Matching Distillation")."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamengen.checkpoint import build_sampler
from gamengen.config import Config, DistillStage
from gamengen.game import GameSpec
from gamengen.models.denoisers import Denoiser
from gamengen.models.diffusion import Draws
from gamengen.models.sampler import Sampler
from gamengen.train import denoiser as denoiser_stage
from gamengen.train.loop import Batch, Objective
from gamengen.train.unrolling import Unrolling

_LEAST_TIMESTEP = 0.02  # of all, at which scores are compared: below there is no noise to remove


class Student(nn.Module):
    """All that is trained: the generator and, for distribution matching, the network that knows its score."""

    def __init__(self, generator: Denoiser, fake_score: Denoiser | None) -> None:
        super().__init__()
        self.generator = generator
        self.fake_score = fake_score

    def forward(self, part: str, *inputs: Tensor) -> Tensor:
        """Call one of the two: what makes a module data-parallel or compiles it knows `forward` alone."""
        return self.generator(*inputs) if part == "generator" else self.fake_score(*inputs)


@dataclass(frozen=True)
class Distillation:
    """The losses.

    First, regression: the generator shall land where the teacher's several steps land from the same noise. Because both
    see the same noise, the noise, not the mean of all futures, decides what happens: rare things survive.

    Then, distribution matching, in turns of `fake_score_steps` steps of the fake-score network, which learns to remove
    noise from what the generator makes, and one of the generator, which moves each of its frames from what that network
    takes for likely to what the teacher does. Regression goes on beside it with `regression_weight`.

    Of a past of the generator's own making (`unrolled_steps`) the teacher says what follows, so that there is a right
    answer to each, however far it is off the recording.

    Attributes:
        sampler: the teacher's.
        start: the timestep at which the generator, which makes its one step, sees pure noise.
    """

    settings: DistillStage
    sampler: Sampler
    start: int
    teacher: Denoiser
    student: Student

    def matches(self, step: int) -> bool:
        return step >= self.settings.steps - self.settings.matching_steps

    def part(self, step: int) -> str:
        """Return which network a step trains."""
        turn = (self.settings.steps - 1 - step) % (
            self.settings.fake_score_steps + 1
        )  # the last one is the generator's
        return "fake_score" if self.matches(step) and turn else "generator"

    def loss(self, network: nn.Module, context: Tensor, actions: Tensor, draws: Draws, step: int) -> Tensor:
        """Return the mean loss of contexts [B, L, C, h, w] and actions [B, L].

        Of a window's 2 K noises, the generator starts from the first K; the others are put on what it made, at the
        timesteps of these.
        """
        augmentation = dataclasses.replace(self.sampler.augmentation, max_level=self.settings.max_noise_level)
        context, level = augmentation.corrupt(context, draws)
        past = context, actions, self.sampler.augmentation.bucket(level)
        (first, white), (_, timestep) = (
            part.transpose(0, 1).flatten(0, 1).chunk(2) for part in (draws.noise, draws.timestep)
        )
        noise = self.sampler.schedule.noise(white)
        start = torch.full_like(timestep, self.start)
        if self.part(step) == "fake_score":
            with torch.no_grad():
                made = self._generate(self.student, first, start, past)
            velocity = network("fake_score", self._noised(made, noise, timestep), timestep, *past).float()
            return F.mse_loss(velocity, self.sampler.schedule.velocity(made, noise, timestep))
        made = self._generate(network, first, start, past)
        matches = self.matches(step)
        weight = self.settings.regression_weight if matches else 1.0
        loss = self._matching(made, noise, timestep, past) if matches else torch.zeros((), device=made.device)
        if weight:
            wanted = self.sampler.solve(self.teacher, context, actions, first, past[2])
            loss = loss + weight * F.mse_loss(made, wanted)
        return loss

    @functools.cached_property
    def _guided(self) -> Sampler:
        return dataclasses.replace(self.sampler, guidance_scale=self.settings.guidance_scale)

    def _generate(self, network: nn.Module, white: Tensor, start: Tensor, past: tuple[Tensor, ...]) -> Tensor:
        noise = self.sampler.schedule.noise(white)
        velocity = network("generator", noise, start, *past).float()
        return self.sampler.schedule.clean(noise, velocity, start)

    def _noised(self, made: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        return self.sampler.schedule.add_noise(made, noise, timestep)

    def _matching(self, made: Tensor, noise: Tensor, timestep: Tensor, past: tuple[Tensor, ...]) -> Tensor:
        """Return a loss whose gradient is the difference of the scores, of about the same size at every timestep."""
        with torch.no_grad():
            noised = self._noised(made, noise, timestep)
            clean = functools.partial(self.sampler.schedule.clean, noised, timestep=timestep)
            real = clean(velocity=self._guided.predict(self.teacher, noised, timestep, *past).float())
            fake = clean(velocity=self.student("fake_score", noised, timestep, *past).float())
            size = (made - real).abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-3)
            wanted = made - (fake - real) / size
        return 0.5 * F.mse_loss(made, wanted)


def objective(config: Config, game: GameSpec, shard_list: Sequence[str], teacher: Denoiser) -> Objective:
    """Build the stage; all networks begin as the teacher."""
    settings, noise = config.train.distill, config.diffusion
    if not 0 <= settings.matching_steps <= settings.steps:
        raise ValueError(f"train.distill.matching_steps, got {settings.matching_steps}; expected 0 ... steps.")
    latent_shape = denoiser_stage.latent_shape(config, game)
    start = config.fast_sampler.timesteps[0]
    shape = (settings.batch_size, config.denoiser.context_length, *latent_shape)

    def copy() -> Denoiser:
        network = denoiser_stage.build(config, game, latent_shape)
        network.load_state_dict(teacher.state_dict())
        return network

    student = Student(copy(), copy() if settings.matching_steps else None)
    sampler = build_sampler(denoiser_stage.scheduler_settings(config))
    played_by = build_sampler(denoiser_stage.scheduler_settings(config, fast=True))
    unrolling = Unrolling.of(config, "distill", played_by)
    stream = denoiser_stage.windows(config, settings, game, shard_list)
    first = int(_LEAST_TIMESTEP * noise.num_train_timesteps)

    @functools.cache
    def on(device: torch.device) -> Distillation:
        there = dataclasses.replace(sampler, schedule=sampler.schedule.to(device))
        return Distillation(settings, there, start, teacher.eval().requires_grad_(False).to(device), student)

    @functools.lru_cache(maxsize=1)
    def draws_of(step: int, device: torch.device) -> Draws:
        seed = config.seed * 1_000_003 + step + 1
        draws = Draws.sample(
            shape, noise.num_train_timesteps, (start,), 0.0, seed, 2 * settings.draws_per_window, device
        )
        return dataclasses.replace(draws, timestep=draws.timestep.clamp_min(first))

    def prepare(batch: Batch, step: int, examples: slice) -> Batch:
        context, actions, _, follows = batch
        return unrolling(student.generator, context.float(), actions, follows, step, examples), actions

    def loss(network: nn.Module, batch: Batch, step: int, examples: slice) -> Tensor:
        context, actions = batch
        draws: Any = draws_of(step, context.device).part(examples)
        return on(context.device).loss(network, context, actions, draws, step)

    return Objective(student, functools.partial(denoiser_stage.batches, stream, unrolling), loss, prepare)
