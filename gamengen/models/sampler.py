"""Samples the next frame's latents: DDIM over a few timesteps, guidance on the context, or a single step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gamengen.models.denoisers import Denoiser, repeat
from gamengen.models.diffusion import Augmentation, Schedule


@dataclass(frozen=True)
class Sampler:
    """Deterministic DDIM (eta = 0) from pure noise at `timesteps[0]` down to clean latents.

    Attributes:
        timesteps: falling timesteps, one network call each. Where the first lies decides how often a rare thing (an
            obstacle that enters) happens: from the very end of the schedule a network that was not trained for ever
            predicts the mean of all futures, in which rare things are ghosts; a little below, it commits to one.
        guidance_scale: 1 for none; above, the difference to the denoiser without context is amplified (section 3.3).
        noise_level: Gaussian noise added to the context at inference, 0 ... Augmentation.max_level.
        noise_scales: standard deviation of the noise at each timestep, all 1 by default. A few steps make rare things
            rarer than they are; more than 1 where the network decides whether they happen makes up for it, and 1 at the
            last leaves the picture as clean as it would be without.
    """

    schedule: Schedule
    augmentation: Augmentation
    timesteps: tuple[int, ...]
    guidance_scale: float = 1.0
    noise_level: float = 0.0
    noise_scales: tuple[float, ...] = ()
    _bucket: int = field(init=False, repr=False)
    _coefficients: tuple[tuple[float, float], ...] = field(init=False, repr=False)  # (signal, sigma) of each timestep

    def __post_init__(self) -> None:
        last = len(self.schedule.alpha_bar) - 1
        falling = all(a > b for a, b in zip(self.timesteps, self.timesteps[1:], strict=False))
        if not self.timesteps or not falling or not 0 <= self.timesteps[-1] <= self.timesteps[0] <= last:
            raise ValueError(f"sampler timesteps must fall within 0 ... {last}, got {self.timesteps}.")
        scales = self.noise_scales or (1.0,) * len(self.timesteps)
        if len(scales) != len(self.timesteps) or min(scales) <= 0:
            raise ValueError(
                f"sampler noise_scales, got {scales}; expected a positive number for each of {self.timesteps}."
            )
        object.__setattr__(self, "noise_scales", tuple(scales))
        # Numbers, not tensors: sampling has nothing to wait for and nothing to bring to the device.
        object.__setattr__(self, "_bucket", int(self.augmentation.bucket(torch.tensor(self.noise_level))))
        object.__setattr__(self, "_coefficients", tuple(self.schedule.scales(t) for t in self.timesteps))

    @property
    def num_inference_steps(self) -> int:
        return len(self.timesteps)

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, context: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """Return latents [B, C, h, w] for contexts [B, L, C, h, w], actions [B, L] and noise [B, C, h, w]."""
        return self.sample(denoiser, self.corrupt(context, noise), actions, noise)

    def corrupt(self, context: Tensor, noise: Tensor) -> Tensor:
        """Add the noise of `noise_level` to contexts [B, L, C, h, w], a function of each player's own noise."""
        return context + self.noise_level * _more_noise(noise, context.shape) if self.noise_level > 0 else context

    @torch.no_grad()
    def sample(self, denoiser: Denoiser, context: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """As a call, for contexts that are corrupted already. Works on the device alone: a CUDA graph can hold it."""
        bucket = torch.full((len(noise),), self._bucket, device=noise.device)
        return self.solve(denoiser, context, actions, noise, bucket)

    @torch.no_grad()
    def solve(self, denoiser: Denoiser, context: Tensor, actions: Tensor, noise: Tensor, bucket: Tensor) -> Tensor:
        """As a call, for contexts that are already corrupted by the noise level of `bucket` [B].

        Noise [K * B, C, h, w] gives K next frames for every past, in the order of `Denoiser.forward`.
        """
        condition = self._condition(denoiser, context, actions, bucket, len(noise) // len(context))
        x = self.schedule.noise(noise) * self.noise_scales[0]
        for step, timestep in enumerate(self.timesteps):
            t = torch.full((len(x),), timestep, device=x.device)
            velocity = self._velocity(denoiser, x, t, condition).float()
            signal, sigma = self._coefficients[step]
            clean = signal * x - sigma * velocity
            if step + 1 < len(self.timesteps):
                predicted_noise = signal * velocity + sigma * x  # deviates by about noise_scales[step]
                predicted_noise = predicted_noise * (self.noise_scales[step + 1] / self.noise_scales[step])
                signal, sigma = self._coefficients[step + 1]
                x = signal * clean + sigma * predicted_noise
        return clean

    @torch.no_grad()
    def predict(
        self, denoiser: Denoiser, noisy: Tensor, timestep: Tensor, context: Tensor, actions: Tensor, bucket: Tensor
    ) -> Tensor:
        """Return the velocity of noised latents [K * B, C, h, w] at timesteps [K * B], with guidance."""
        condition = self._condition(denoiser, context, actions, bucket, len(noisy) // len(context))
        return self._velocity(denoiser, noisy, timestep, condition)

    def _condition(
        self, denoiser: Denoiser, context: Tensor, actions: Tensor, bucket: Tensor, draws: int
    ) -> tuple[Tensor, ...]:
        if self.guidance_scale == 1.0:
            return repeat(denoiser.condition(context, actions, bucket), draws)
        condition = denoiser.condition(
            torch.cat([context, torch.zeros_like(context)]),
            torch.cat([actions, actions]),
            torch.cat([bucket, bucket]),
        )
        if draws == 1:
            return condition
        halves = (repeat(half, draws) for half in zip(*(part.chunk(2) for part in condition), strict=True))
        return tuple(torch.cat(parts) for parts in zip(*halves, strict=True))

    def _velocity(self, denoiser: Denoiser, x: Tensor, t: Tensor, condition: tuple[Tensor, ...]) -> Tensor:
        if self.guidance_scale == 1.0:
            return denoiser.denoise(x, t, *condition)
        both = denoiser.denoise(torch.cat([x, x]), torch.cat([t, t]), *condition)
        with_context, without = both.chunk(2)
        return without + self.guidance_scale * (with_context - without)


def _more_noise(noise: Tensor, shape: torch.Size) -> Tensor:
    """Return further noise [B, L, C, h, w] that is a function of each player's own noise [B, C, h, w]."""
    seeds = noise.flatten(1)[:, :2].double().abs().mul(2**30).sum(1).long().tolist()
    generators = [torch.Generator(noise.device).manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(shape[1:], generator=one, device=noise.device) for one in generators])
