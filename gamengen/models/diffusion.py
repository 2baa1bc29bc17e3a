"""The noise schedule, the velocity loss and the noise augmentation of the context (GameNGen, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Schedule:
    """diffusers' noise schedule, as the cumulative products alpha_bar of shape [num_train_timesteps] that all formulas
    use. The few lines are our own because `import diffusers` takes 5 s, in every process of every phase.

    `offset` is the deviation of what all positions of a channel share of the noise (offset noise, Guttenberg 2023).
    White noise shares next to nothing: where a timestep leaves a thousandth of the signal's power, the mean over
    thousands of positions still tells a network in training what tint the whole frame has. In sampling, which begins
    with noise alone, that mean tells of a tint that nobody chose. With an offset larger than what is left of the signal
    it tells as little in training as there.
    """

    alpha_bar: Tensor
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.offset < math.inf:
            raise ValueError(f"noise_offset, got {self.offset}; expected a number of at least 0.")

    @classmethod
    def create(
        cls,
        num_train_timesteps: int,
        beta_start: float,
        beta_end: float,
        beta_schedule: str,
        zero_terminal_snr: bool,
        noise_offset: float = 0.0,  # for models from before it
    ) -> Schedule:
        """As diffusers' `DDIMScheduler`; `zero_terminal_snr`: Lin et al., "Common Diffusion Noise Schedules and Sample
        Steps are Flawed", algorithm 1."""
        if beta_schedule == "scaled_linear":
            betas = torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps).square()
        elif beta_schedule == "linear":
            betas = torch.linspace(beta_start, beta_end, num_train_timesteps)
        else:
            raise ValueError(f"beta_schedule, got {beta_schedule!r}; expected linear or scaled_linear.")
        alpha_bar = (1 - betas).cumprod(0)
        if zero_terminal_snr:
            signal = alpha_bar.sqrt()
            alpha_bar = ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])).square()
        return cls(alpha_bar, noise_offset)

    def to(self, device: torch.device) -> Schedule:
        return Schedule(self.alpha_bar.to(device), self.offset)

    def noise(self, white: Tensor) -> Tensor:
        """Turn white noise [B, C, h, w] into this schedule's: what it shares by chance becomes `offset` more."""
        if self.offset == 0:
            return white
        rows, columns = white.shape[-2:]
        return white + self.offset * math.sqrt(rows * columns) * white.mean((-2, -1), keepdim=True)

    def coefficients(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Return (signal, noise) scales of shape [B, 1, 1, 1]; their squares add up to one."""
        alpha_bar = self.alpha_bar.to(timestep.device)[timestep][:, None, None, None]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def scales(self, timestep: int) -> tuple[float, float]:
        """Return (signal, noise) of one timestep as numbers: nothing to be brought to a device."""
        alpha_bar = self.alpha_bar[timestep].double()
        return float(alpha_bar.sqrt()), float((1 - alpha_bar).sqrt())

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        signal, sigma = self.coefficients(timestep)
        return signal * clean + sigma * noise

    def velocity(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """v = signal * noise - sigma * clean, what the denoiser predicts."""
        signal, sigma = self.coefficients(timestep)
        return signal * noise - sigma * clean

    def clean(self, noisy: Tensor, velocity: Tensor, timestep: Tensor) -> Tensor:
        """The clean latents that a velocity means."""
        signal, sigma = self.coefficients(timestep)
        return signal * noisy - sigma * velocity


@dataclass(frozen=True)
class Augmentation:
    """How the context is corrupted in training, so that a rollout can live with its own errors.

    A level U(0, max_level) of Gaussian noise is added to a context and its bucket 1 ... num_buckets is told to the
    denoiser; `clean_fraction` of the contexts stay clean (bucket 0); `dropout` of them are replaced by zeros, which is
    the unconditional branch of guidance.

    `blend_fraction` of the contexts are blended, by a share U(0, max_blend) that the denoiser is not told, with the
    mean of their own frames. Where a model is unsure it makes a blend of what may be (of two digits of a score), and
    noise is unlike a blend: a denoiser that never saw any goes on with it for ever, one that has goes back to one of
    the two. With a share of up to 1 too little is left of how things move.
    """

    max_level: float
    num_buckets: int
    clean_fraction: float
    dropout: float
    blend_fraction: float = 0.0  # both for models from before them
    max_blend: float = 0.0

    def __post_init__(self) -> None:
        for name in ("clean_fraction", "dropout", "blend_fraction", "max_blend"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} of the context augmentation, got {value}; expected 0 ... 1.")

    def bucket(self, level: Tensor) -> Tensor:
        """Return the bucket of a noise level: 0 for none, else 1 ... num_buckets."""
        return torch.where(
            level > 0, (level / self.max_level * self.num_buckets).long().clamp(0, self.num_buckets - 1) + 1, 0
        )

    def __call__(self, context: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Corrupt contexts [B, L, C, h, w]; returns them and their buckets [B]."""
        corrupted, level = self.corrupt(context, draws)
        keep = (draws.drop >= self.dropout).to(context.dtype)
        return corrupted * keep[:, None, None, None, None], self.bucket(level)

    def corrupt(self, context: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Blend contexts [B, L, C, h, w] and add noise to them; returns them and the noise levels [B]."""
        if self.blend_fraction > 0:
            share = self.max_blend * (1 - draws.blend / self.blend_fraction).clamp_min(0)
            context = context.lerp(context.mean(1, keepdim=True), share[:, None, None, None, None])
        level = draws.level * self.max_level * (draws.clean >= self.clean_fraction)
        return context + level[:, None, None, None, None] * draws.context_noise, level


@dataclass(frozen=True)
class Draws:
    """All random numbers that one batch needs: B windows, K draws of noise for each."""

    noise: Tensor  # [B, K, C, h, w]
    timestep: Tensor  # [B, K]
    context_noise: Tensor  # [B, L, C, h, w]
    level: Tensor  # [B] in [0, 1)
    clean: Tensor  # [B] in [0, 1)
    drop: Tensor  # [B] in [0, 1)
    blend: Tensor  # [B] in [0, 1)

    @classmethod
    def sample(
        cls,
        shape: Sequence[int],
        num_train_timesteps: int,
        visited: Sequence[int],
        start_fraction: float,
        seed: int,
        num_draws: int = 1,
        device: torch.device | str = "cpu",
    ) -> Draws:
        """Draw on a device for contexts of `shape` [B, L, C, h, w].

        `start_fraction` of the timesteps are those that sampling visits (the draws of a window visit different ones as
        long as there are some), the rest are uniform below the first of them: a network that is sampled in four steps
        from t = 800 need not learn what lies above.
        """
        generator = torch.Generator(device).manual_seed(seed)
        batch, size, of = shape[0], (shape[0], num_draws), {"generator": generator, "device": device}
        uniform = torch.randint(0, min(max(visited) + 1, num_train_timesteps), size, **of)
        order = torch.rand(batch, len(visited), **of).argsort(1)
        order = order.repeat(1, -(-num_draws // len(visited)))[:, :num_draws]
        chosen = torch.stack([torch.full((), one, device=device) for one in visited])[order]  # a copy would wait
        at_visited = torch.rand(size, **of) < start_fraction
        return cls(
            noise=torch.randn(*size, *shape[2:], **of),
            timestep=torch.where(at_visited, chosen, uniform),
            context_noise=torch.randn(*shape, **of),
            level=torch.rand(batch, **of),
            clean=torch.rand(batch, **of),
            drop=torch.rand(batch, **of),
            blend=torch.rand(batch, **of),
        )

    def to(self, device: torch.device) -> Draws:
        return Draws(**{name: value.to(device) for name, value in vars(self).items()})

    def part(self, examples: slice) -> Draws:
        """Return the draws of some of the batch's windows: what one worker of several needs."""
        return Draws(**{name: value[examples] for name, value in vars(self).items()})


def loss(
    denoiser: nn.Module,
    schedule: Schedule,
    augmentation: Augmentation,
    context: Tensor,
    actions: Tensor,
    target: Tensor,
    draws: Draws,
    weight: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the predicted velocity, the mean over a window's draws: one value per window [B].

    `weight` [B, 1, h, w] is what each position counts for, 1 by default.

    `denoiser` is a `denoisers.Denoiser`, or what makes one data-parallel.
    """
    corrupted, bucket = augmentation(context, draws)
    white, timestep = draws.noise.transpose(0, 1).flatten(0, 1), draws.timestep.T.flatten()  # [K * B, ...]
    noise = schedule.noise(white)
    target = target.repeat(draws.timestep.shape[1], 1, 1, 1)
    noisy = schedule.add_noise(target, noise, timestep)
    wanted = schedule.velocity(target, noise, timestep)
    velocity = denoiser(noisy, timestep, corrupted, actions, bucket)
    error = F.mse_loss(velocity.float(), wanted, reduction="none").unflatten(0, (-1, len(context)))
    return (error if weight is None else error * weight).mean((0, 2, 3, 4))
