"""Measures a model's pictures against the recorded ones: the next frame, farther frames, clips, and single actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gamengen.envs import Probes
from gamengen.evaluate import held_out
from gamengen.evaluate.held_out import Start
from gamengen.evaluate.judges import Judges, Scores
from gamengen.game import GameSpec
from gamengen.models import autoencoders
from gamengen.progress import Progress

CLIP_LENGTHS = (16, 32)  # frames, of the clips that FVD compares


@dataclass
class NextFrame:
    """The scores of every window, [N], and some windows as pictures, uint8 [K, H, W, 3]. Padding is neither scored nor
    shown."""

    scores: Scores
    real: np.ndarray
    generated: np.ndarray


@dataclass
class Horizons:
    """What a model does on its own.

    Attributes:
        scores: per start and horizon, [N, horizons], NaN past an episode's end.
        features: of the clips of so many frames, [N', F]; of starts that have so many frames ahead. Empty without FVD.
        clips: for the film, uint8 [frames, H, W, 3], recorded beside generated.
    """

    scores: Scores
    features: dict[int, np.ndarray]
    clips: list[tuple[np.ndarray, np.ndarray]]


@dataclass
class Baselines:
    """What every figure of a model stands beside: pictures that no model has made.

    Attributes:
        copy_last: the last frame in place of the next one, per window [N].
        ceiling: the next frame, through the autoencoder and back: no model of these latents does better, [N].
        hold: the last frame in place of all that follow, per start and horizon [N, horizons].
        real, held, reconstructed: features of recorded clips, of held frames, and of recorded clips through the
            autoencoder, by clip length [N', F].
    """

    copy_last: Scores
    ceiling: Scores
    hold: Scores
    real: dict[int, np.ndarray]
    held: dict[int, np.ndarray]
    reconstructed: dict[int, np.ndarray]


def baselines(
    engine: Any,
    windows: Sequence[Start],
    starts: Sequence[Start],
    horizons: Sequence[int],
    judges: Judges,
    batch_size: int,
) -> Baselines:
    """Measure what needs no model but its autoencoder, on the moments that the model is measured on."""
    visible = engine.game.visible
    copied, ceilings, held = [], [], []
    for _, batch in _batches(windows, batch_size):
        recorded = np.stack([start.future(1)[0] for start in batch])
        real = visible(recorded)
        copied.append(judges.score(visible(np.stack([start.last for start in batch])), real))
        ceilings.append(judges.score(visible(_reconstruct(engine, recorded)), real))
    for _, batch in _batches(starts, batch_size):
        last = visible(np.stack([start.last for start in batch]))
        held.append(_by_horizon(batch, {step: last for step in horizons}, horizons, judges, visible))
    clips = _Clips(judges, horizons)
    real, still, coded = clips.empty(), clips.empty(), clips.empty()
    for start in starts if judges.videos else ():
        for length in clips.lengths_of(start):
            recorded = start.future(length)
            clips.add(real, length, visible(recorded))
            clips.add(still, length, np.repeat(visible(start.last)[None], length, axis=0))
            clips.add(coded, length, visible(_reconstruct(engine, recorded)))
    return Baselines(join(copied), join(ceilings), join(held), *(clips.joined(part) for part in (real, still, coded)))


def next_frame(
    engine: Any,
    starts: Sequence[Start],
    judges: Judges,
    batch_size: int,
    num_pictures: int = 0,
    *,
    context_length: int | None = None,
    name: str = "model",
) -> NextFrame:
    """Generate the frame after each recorded past (teacher-forced) and compare it with the recorded one.

    With `context_length`, only so many frames of the past are given; what a model lacks is padded as in training.
    """
    scores, real, shown = [], [], []
    progress = Progress(f"{name}, next frame", len(starts), "windows")
    for first, batch in _batches(starts, batch_size):
        pasts, actions = held_out.pasts(batch, context_length or engine.context_length)
        state = engine.begin(pasts, actions, [start.seed for start in batch])
        generated, _ = engine.step(state, [int(start.actions(1)[0]) for start in batch])
        recorded = engine.game.visible(np.stack([start.future(1)[0] for start in batch]))
        scores.append(judges.score(generated, recorded))
        more = slice(max(0, num_pictures - first))
        real.append(recorded[more])
        shown.append(generated[more])
        progress.tell(first + len(batch))
    return NextFrame(join(scores), np.concatenate(real), np.concatenate(shown))


def by_horizon(
    engine: Any,
    starts: Sequence[Start],
    horizons: Sequence[int],
    judges: Judges,
    batch_size: int,
    num_clips: int = 0,
    *,
    name: str = "model",
) -> Horizons:
    """Generate on and on with the recorded actions; only what is compared or shown is decoded."""
    scores, films = [], []
    clips = _Clips(judges, horizons)
    features = clips.empty()
    progress = Progress(f"{name}, horizons", len(starts) * max(horizons), "frames")
    for first, batch in _batches(starts, batch_size):
        pasts, actions = held_out.pasts(batch, engine.context_length)
        state = engine.begin(pasts, actions, [start.seed for start in batch])
        played = np.stack([start.actions(max(horizons)) for start in batch], axis=1)
        num_shown = max(0, min(num_clips - first, len(batch)))
        compared: dict[int, np.ndarray] = {}
        film: list[np.ndarray] = []
        for step in range(1, max(horizons) + 1):
            latents, state = engine.step_latents(state, played[step - 1].tolist())
            whole = step in horizons or step <= clips.longest
            decoded = engine.decode(latents if whole else latents[:num_shown]) if whole or num_shown else None
            if decoded is not None:
                film.append(decoded if step <= clips.longest else decoded[:num_shown])
            if step in horizons:
                compared[step] = decoded
            progress.tell(first * max(horizons) + step * len(batch))
        scores.append(_by_horizon(batch, compared, horizons, judges, engine.game.visible))
        for row, start in enumerate(batch):
            for length in clips.lengths_of(start):
                clips.add(features, length, np.stack([frames[row] for frames in film[:length]]))
        films += _beside(batch[:num_shown], film, max(horizons), engine.game)
    return Horizons(join(scores), clips.joined(features), films)


def _by_horizon(batch: Sequence[Start], frames: Any, horizons: Sequence[int], judges: Judges, visible: Any) -> Scores:
    """Score the frames [N, H, W, 3] of each horizon: [N, horizons]."""
    result = Scores(*(np.full((len(batch), len(horizons)), np.nan) for _ in Scores.__dataclass_fields__))
    for column, step in enumerate(horizons):
        rows = [row for row, start in enumerate(batch) if len(start.future(step)) == step]
        if rows:
            real = visible(np.stack([batch[row].future(step)[-1] for row in rows]))
            for name, values in vars(judges.score(frames[step][rows], real)).items():
                getattr(result, name)[rows, column] = values
    return result


def _beside(
    batch: Sequence[Start], film: Sequence[np.ndarray], length: int, game: GameSpec
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return recorded and generated frames of each start, as many as were recorded."""
    clips = []
    for row, start in enumerate(batch):
        real = game.visible(start.future(length))
        clips.append((real, np.stack([frames[row] for frames in film])[: len(real)]))
    return clips


class _Clips:
    """Turns clips into the features that FVD compares, clip by clip: whole clips of all starts would not fit."""

    def __init__(self, judges: Judges, horizons: Sequence[int]) -> None:
        self._videos = judges.videos
        self._lengths = [length for length in CLIP_LENGTHS if judges.videos and length <= max(horizons)]
        self.longest = max(self._lengths, default=0)

    def lengths_of(self, start: Start) -> list[int]:
        """Return the lengths of the clips that begin at a start and do not reach over the episode's end."""
        return [length for length in self._lengths if len(start.future(length)) == length]

    def empty(self) -> dict[int, list[np.ndarray]]:
        return {length: [] for length in self._lengths}

    def add(self, to: dict[int, list[np.ndarray]], length: int, clip: np.ndarray) -> None:
        assert self._videos is not None
        to[length].append(self._videos(clip[None]))

    def joined(self, features: dict[int, list[np.ndarray]]) -> dict[int, np.ndarray]:
        return {length: np.concatenate(parts) if parts else np.zeros((0, 1)) for length, parts in features.items()}


def join(parts: Sequence[Scores]) -> Scores:
    """Put scores one after the other."""
    names = Scores.__dataclass_fields__
    return Scores(*(np.concatenate([getattr(part, name) for part in parts] or [np.zeros(0)]) for name in names))


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


def _reconstruct(engine: Any, frames: np.ndarray) -> np.ndarray:
    """Send frames uint8 [N, H, W, 3] through the autoencoder and back."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).to(getattr(engine, "device", "cpu"))
    return autoencoders.reconstruct(engine.autoencoder, images).cpu().numpy()


def _batches(starts: Sequence[Start], batch_size: int) -> Iterator[tuple[int, Sequence[Start]]]:
    for first in range(0, len(starts), batch_size):
        yield first, starts[first : first + batch_size]
