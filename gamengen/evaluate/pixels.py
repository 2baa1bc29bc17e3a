"""Measures a model's pictures against the recorded ones: the next frame, farther frames, and single actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gamengen import metrics
from gamengen.envs import Probes
from gamengen.evaluate import held_out
from gamengen.evaluate.held_out import Start
from gamengen.game import GameSpec
from gamengen.models import autoencoders
from gamengen.progress import Progress


@dataclass
class NextFrame:
    """Per window, float [N]; and some windows as pictures, uint8 [K, H, W, 3]. Padding is neither scored nor shown."""

    psnr: np.ndarray
    ssim: np.ndarray
    psnr_copy_last: np.ndarray
    ssim_copy_last: np.ndarray
    psnr_ceiling: np.ndarray
    ssim_ceiling: np.ndarray
    real: np.ndarray
    generated: np.ndarray


@dataclass
class Horizons:
    """PSNR per start and horizon, float [N, horizons], NaN past an episode's end; and clips for the film, uint8
    [frames, H, W, 3], recorded beside generated."""

    psnr: np.ndarray
    hold: np.ndarray
    clips: list[tuple[np.ndarray, np.ndarray]]


def next_frame(
    engine: Any, starts: Sequence[Start], batch_size: int, num_pictures: int = 0, *, name: str = "model"
) -> NextFrame:
    """Generate the frame after each recorded past (teacher-forced) and compare it with the recorded one."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in NextFrame.__dataclass_fields__}
    progress = Progress(f"{name}, next frame", len(starts), "windows")
    for first, batch in _batches(starts, batch_size):
        pasts, actions = held_out.pasts(batch, engine.context_length)
        state = engine.begin(pasts, actions, [start.seed for start in batch])
        generated, _ = engine.step(state, [int(start.actions(1)[0]) for start in batch])
        recorded = np.stack([start.future(1)[0] for start in batch])
        device, visible = getattr(engine, "device", "cpu"), engine.game.visible
        ceiling = autoencoders.reconstruct(engine.autoencoder, torch.from_numpy(recorded).to(device)).cpu().numpy()
        real = visible(recorded)
        for name, frames in (
            ("", generated),
            ("_copy_last", visible(pasts[:, -1])),
            ("_ceiling", visible(ceiling)),
        ):
            columns[f"psnr{name}"].append(metrics.psnr(frames, real))
            columns[f"ssim{name}"].append(metrics.ssim(frames, real))
        shown = slice(max(0, num_pictures - first))
        columns["real"].append(real[shown])
        columns["generated"].append(generated[shown])
        progress.tell(first + len(batch))
    return NextFrame(**{name: np.concatenate(parts) for name, parts in columns.items()})


def by_horizon(
    engine: Any,
    starts: Sequence[Start],
    horizons: Sequence[int],
    batch_size: int,
    num_clips: int = 0,
    *,
    name: str = "model",
) -> Horizons:
    """Generate on and on with the recorded actions; only what is compared or shown is decoded."""
    psnr, hold, clips = [], [], []
    visible = engine.game.visible
    progress = Progress(f"{name}, horizons", len(starts) * max(horizons), "frames")
    for first, batch in _batches(starts, batch_size):
        pasts, actions = held_out.pasts(batch, engine.context_length)
        state = engine.begin(pasts, actions, [start.seed for start in batch])
        played = np.stack([start.actions(max(horizons)) for start in batch], axis=1)
        shown = max(0, min(num_clips - first, len(batch)))
        films: list[np.ndarray] = []
        values = np.full((2, len(batch), len(horizons)), np.nan)
        for step in range(1, max(horizons) + 1):
            latents, state = engine.step_latents(state, played[step - 1].tolist())
            if step in horizons:
                frames = engine.decode(latents)
                for row, start in enumerate(batch):
                    real = visible(start.future(step)[step - 1 : step])
                    if len(real):
                        column = list(horizons).index(step)
                        values[0, row, column] = metrics.psnr(frames[row : row + 1], real)[0]
                        values[1, row, column] = metrics.psnr(visible(pasts[row : row + 1, -1]), real)[0]
            if shown:
                films.append(frames[:shown] if step in horizons else engine.decode(latents[:shown]))
            progress.tell(first * max(horizons) + step * len(batch))
        psnr.append(values[0])
        hold.append(values[1])
        for row in range(shown):
            real = visible(batch[row].future(max(horizons)))
            clips.append((real, np.stack([film[row] for film in films])[: len(real)]))
    return Horizons(np.concatenate(psnr), np.concatenate(hold), clips)


def followed(engine: Any, starts: Sequence[Start], action: str, probes: Probes, batch_size: int) -> np.ndarray:
    """Hold an action from each moment on; return whether the generated frames show it in time, bool [N]."""
    results = [np.zeros(0, bool)]
    index = engine.game.action_index(action)
    for _, batch in _batches(starts, batch_size):
        pasts, actions = held_out.pasts(batch, engine.context_length)
        state = engine.begin(pasts, actions, [start.seed for start in batch])
        seen = np.zeros(len(batch), bool)
        for _ in range(probes.FOLLOWED_WITHIN[action]):
            frames, state = engine.step(state, [index] * len(batch))
            seen |= probes.shows(action, frames)
        results.append(seen)
    return np.concatenate(results)


def followed_in_recordings(starts: Sequence[Start], game: GameSpec, action: str, probes: Probes) -> np.ndarray:
    """As `followed`, in the recorded frames after moments at which the player took this very action."""
    within = probes.FOLLOWED_WITHIN[action]
    return np.array([probes.shows(action, game.visible(start.future(within))).any() for start in starts], bool)


def _batches(starts: Sequence[Start], batch_size: int) -> Iterator[tuple[int, Sequence[Start]]]:
    for first in range(0, len(starts), batch_size):
        yield first, starts[first : first + batch_size]
