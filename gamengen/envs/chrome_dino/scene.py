"""What is seen on whole batches of frames: T-rex, obstacles ahead, game over; asks no game state.

The same questions as `detect.py`, whose pictures it compares with, at the frame's own size, by day and by night, and
for many frames at a time: an evaluation looks at tens of thousands. Lengths are pixels of the native 256 x 512 frame.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gamengen.envs.chrome_dino import physics, render
from gamengen.envs.chrome_dino.detect import INK
from gamengen.envs.chrome_dino.physics import Status

FRONT = physics.TREX_X + physics.TREX_WIDTH  # where the T-rex ends
_STANDING_TOP = render.STRIP_TOP + physics.GROUND_Y
_SEARCH_FROM = render.STRIP_TOP - 8  # highest row of a head that is looked for; even, as half-size frames have it
_RISE = 8  # pixels from which on the T-rex counts as in the air
_BAND = slice(render.STRIP_TOP + 50, render.STRIP_TOP + 126)  # rows of obstacles; below, the ground's bumps
_HEAD_ROWS = 37  # of the standing T-rex: what is below, the legs, moves
_MIN_TREX, _MIN_PANEL = 0.45, 0.3  # match: 1 is a clean picture, 0 none; what stands in the way or blurs lowers it
_MIN_COLUMN, _MIN_AREA, _MAX_HOLE = 2.5, 50.0, 24  # in pixels of ink: of a column, of an obstacle; between its parts


@dataclass(frozen=True)
class Obstacle:
    """Columns start ... end of one obstacle ahead, and the lowest row with ink, in world rows."""

    start: int
    end: int
    bottom: int


@dataclass(frozen=True)
class Scene:
    """What is seen on one frame; `top` is the row of a standing or jumping T-rex's head, None where none is found."""

    over: bool
    top: int | None
    ducking: bool
    obstacles: tuple[Obstacle, ...]

    @property
    def airborne(self) -> bool:
        return self.top is not None and not self.ducking and self.top <= _STANDING_TOP - _RISE


def look(frames: np.ndarray) -> list[Scene]:
    """See frames, uint8 [N, 256, 512, 3] or half that size, by day or night."""
    factor = _factor(frames)
    dark = _darkness(frames)
    over = _matches(dark, "game over", factor) & _matches(dark, "restart", factor)
    tops, ducking = _find_trex(dark, factor)
    rows = slice(_BAND.start // factor, _BAND.stop // factor)
    ink = np.clip((dark[:, rows] - 0.45) / 0.55, 0, 1)
    scenes = []
    for index in range(len(frames)):
        seen = () if over[index] else _obstacles(ink[index], factor, bool(ducking[index]))
        top = None if np.isnan(tops[index]) else int(tops[index])
        scenes.append(Scene(bool(over[index]), top, bool(ducking[index]), seen))
    return scenes


def _factor(frames: np.ndarray) -> int:
    factor = render.HEIGHT // frames.shape[1] if frames.ndim == 4 else 0
    if factor not in (1, 2) or frames.shape[1:] != (render.HEIGHT // factor, render.WIDTH // factor, 3):
        raise ValueError(f"frames, got shape {frames.shape}; expected [N, 256, 512, 3] or [N, 128, 256, 3].")
    return factor


def _darkness(frames: np.ndarray) -> np.ndarray:
    """Return float32 [N, H, W], 0 for paper and 1 for ink; the picture of the night is turned back into the day's."""
    grey = frames[..., 1].astype(np.float32)  # one channel of a grey game
    night = np.median(grey[:, ::8, ::8], axis=(1, 2)) < 128
    grey[night] = 255 - grey[night]
    return (255 - grey) / INK


def _matches(dark: np.ndarray, name: str, factor: int) -> np.ndarray:
    rows, columns, weights = _panel(name, factor)
    return np.einsum("nhw,hw->n", dark[:, rows, columns], weights) >= _MIN_PANEL


def _find_trex(dark: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of the head (NaN: no T-rex) and whether it ducks, both [N]."""
    _, columns, weights = _trex(False, factor)
    first = _SEARCH_FROM // factor
    strip = dark[:, first : (_STANDING_TOP + 4) // factor + weights.shape[0], columns]
    windows = sliding_window_view(strip, weights.shape[0], axis=1)  # [N, tops, columns, rows of the head]
    matches = np.tensordot(windows, weights.T, axes=([2, 3], [0, 1]))
    best = matches.argmax(axis=1)
    match = matches[np.arange(len(dark)), best]
    duck_rows, duck_columns, duck_weights = _trex(True, factor)
    duck_match = np.einsum("nhw,hw->n", dark[:, duck_rows, duck_columns], duck_weights)
    ducking = (duck_match > match) & (duck_match >= _MIN_TREX)
    tops = np.where(match >= _MIN_TREX, (first + best) * float(factor) + _STANDING_TOP % factor, np.nan)
    return np.where(ducking, _STANDING_TOP + render.DUCK_TOP, tops), ducking


def _obstacles(ink: np.ndarray, factor: int, ducking: bool) -> tuple[Obstacle, ...]:
    behind = FRONT + 2 if not ducking else physics.TREX_X + physics.TREX_DUCK_WIDTH + 2
    columns = np.flatnonzero(ink.sum(axis=0) * factor >= _MIN_COLUMN)
    columns = columns[columns * factor >= behind]
    if columns.size == 0:
        return ()
    found = []
    for group in np.split(columns, np.flatnonzero(np.diff(columns) * factor > _MAX_HOLE) + 1):
        part = ink[:, group[0] : group[-1] + 1]
        if part.sum() * factor**2 >= _MIN_AREA:
            bottom = np.flatnonzero(part.max(axis=1) > 0.3)
            row = (bottom[-1] + 1) * factor + _BAND.start - render.STRIP_TOP if bottom.size else 0
            found.append(Obstacle(int(group[0]) * factor, (int(group[-1]) + 1) * factor, int(row)))
    return tuple(found)


@functools.cache
def _panel(name: str, factor: int) -> tuple[slice, slice, np.ndarray]:
    place = (render.PANEL_TEXT_X, render.PANEL_TEXT_Y) if name == "game over" else (render.RESTART_X, render.RESTART_Y)
    return _shrink(render.STRIP_TOP + place[1], place[0], _contrast(render.sprites(1)[name] < 255, 0), factor)


@functools.cache
def _trex(ducking: bool, factor: int) -> tuple[slice, slice, np.ndarray]:
    if ducking:
        ink = render.sprites(1)["duck", 0] < 255
        return _shrink(_STANDING_TOP + render.DUCK_TOP, physics.TREX_X, _contrast(ink, 1), factor)
    ink = render.sprites(1)[Status.JUMPING, 0][:_HEAD_ROWS] < 255
    return _shrink(_STANDING_TOP, physics.TREX_X, _contrast(ink, 1), factor)


def _contrast(ink: np.ndarray, seam: int) -> np.ndarray:
    """Return weights whose sum over a picture is the mean darkness of its ink less that of the paper beyond a seam."""
    windows = sliding_window_view(np.pad(ink, seam), (2 * seam + 1, 2 * seam + 1))
    paper = ~windows.any(axis=(2, 3))
    return ink / ink.sum() - paper / paper.sum()


def _shrink(top: int, left: int, weights: np.ndarray, factor: int) -> tuple[slice, slice, np.ndarray]:
    """Sum weights over the blocks of a smaller frame; returns the frame's rows, columns and the weights."""
    above, before = top % factor, left % factor
    below, after = -(top + weights.shape[0]) % factor, -(left + weights.shape[1]) % factor
    padded = np.pad(weights, ((above, below), (before, after)))
    rows, columns = padded.shape[0] // factor, padded.shape[1] // factor
    blocks = padded.reshape(rows, factor, columns, factor).sum(axis=(1, 3)).astype(np.float32)
    first_row, first_column = top // factor, left // factor
    return slice(first_row, first_row + rows), slice(first_column, first_column + columns), blocks
