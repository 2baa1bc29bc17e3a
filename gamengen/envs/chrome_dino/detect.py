"""What can be seen on a frame alone, real or made by a model: T-rex, obstacles, game over; asks no game state.

Frames are uint8 [256, 512, 3] or half that size, by day, and may be somewhat blurred or noisy. Rows and columns in
arguments and results are always those of the native 256 x 512 frame.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gamengen.envs.chrome_dino import physics, render
from gamengen.envs.chrome_dino.obstacles import OBSTACLE_TYPES, ObstacleType, group_boxes
from gamengen.envs.chrome_dino.physics import Status

INK = 255 - 83  # the darkness of what is drawn in ink
GROUND_LINE = render.STRIP_TOP + physics.GROUND_TOP + 3  # its first row

# Boxes of the native frame in which nothing moves but what the name says: (rows, columns).
STATIC_REGIONS: dict[str, tuple[slice, slice]] = {
    "score": (
        slice(render.STRIP_TOP + render.SCORE_Y, render.STRIP_TOP + render.SCORE_Y + 13),
        slice(render.SCORE_X, render.WIDTH),
    ),
    "ground": (slice(GROUND_LINE, GROUND_LINE + 2), slice(0, render.WIDTH)),
    "sky": (slice(0, render.STRIP_TOP), slice(0, render.WIDTH)),
}

_FACTORS = (1, 2)
_TREX_X, _TREX_WIDTH = physics.TREX_X, physics.TREX_WIDTH
_STANDING_TOP = render.STRIP_TOP + physics.GROUND_Y  # row of the head that stands
_DUCKING_TOP = _STANDING_TOP + render.DUCK_TOP
_HIGHEST_TOP = render.STRIP_TOP - 6  # a little above the highest jump
_HEAD_ROWS = 37  # of the standing T-rex: what is below, the legs, moves
_BAND = slice(render.STRIP_TOP + 50, GROUND_LINE - 3)  # rows of obstacles, above the ground's bumps
_MIN_TREX, _MIN_PANEL = 0.43, 0.12  # match: 1 is a clean picture, 0 none; what stands in the way or blurs lowers it
_MIN_COLUMN, _MIN_AREA, _MAX_HOLE = 2.5, 50.0, 24  # in pixels of ink: of a column, of an obstacle; between its parts
_LEFT, _NEAR, _MIN_EXPLAINED = 75, 150, 25.0  # columns off and on the picture that matter to a touch; ink in pixels
_SLACK = 2  # pixels by which a picture's place may be wrong


def trex_top(frame: np.ndarray) -> int | None:
    """Return the row of the top of the T-rex (its head's, or its back's while it ducks), None where there is none."""
    top, _, match = _find_trex(_darkness(frame))
    return top if match >= _MIN_TREX else None


def is_ducking(frame: np.ndarray) -> bool:
    """Return whether the T-rex is seen ducking."""
    _, ducking, match = _find_trex(_darkness(frame))
    return ducking and match >= _MIN_TREX


def is_game_over(frame: np.ndarray) -> bool:
    """Return whether the panel with "GAME OVER" and the restart button is shown."""
    return _sees_panel(_darkness(frame))


def obstacles(frame: np.ndarray) -> list[tuple[int, int]]:
    """Return the columns [start, end) of cacti groups and pterodactyls, from left to right."""
    return _spans(_obstacle_ink(_darkness(frame)))


def collides(frame: np.ndarray) -> bool:
    """Return whether the T-rex touches an obstacle: found by their pictures, judged by the game's rule."""
    dark = _darkness(frame)
    top, ducking, match = _find_trex(dark)
    if match < _MIN_TREX:
        return False
    near = _obstacle_near_trex(dark, _trex_seam(top, ducking))
    if near is None:
        return False
    game = physics.Game()
    poses = {ducking, ducking or _sees_panel(dark)}  # a T-rex that crashed while it ducked is drawn standing
    found = near.x
    for game.ducking in poses:
        for game.y in (physics.GROUND_Y,) if ducking else (top - render.STRIP_TOP, top - render.STRIP_TOP + _SLACK):
            for near.x in (found - _SLACK, found, found + _SLACK):
                if game.hits(near):
                    return True
    return False


def entries(frames: Sequence[np.ndarray]) -> int:
    """Count the obstacles that come in at the right edge in consecutive frames of at most 50 ms.

    A group of cacti counts once. An obstacle counts once it was seen at two places, the first near the right edge; it
    may flicker for two frames. What is there on the first frame does not count.
    """
    tracks: list[_Track] = []
    count = 0
    for index, frame in enumerate(frames):
        for start, _ in obstacles(frame):
            track = next((t for t in tracks if t.may_move_to(start, index)), None)
            if track is None:
                tracks.append(_Track(start, index))
                continue
            count += track.confirm(start, index)
        tracks = [track for track in tracks if index - track.seen <= _Track.MAX_MISSED]
    return count


class _Track:
    """One obstacle on its way from right to left."""

    MAX_MISSED = 2
    FASTEST = 3 * (physics.MAX_SPEED + 2)  # pixels per frame

    def __init__(self, start: int, index: int) -> None:
        self.start, self.seen = start, index
        self._entering = index > 0 and start > render.WIDTH - 3 * self.FASTEST

    def may_move_to(self, start: int, index: int) -> bool:
        """Return whether this obstacle may be the one seen at `start`."""
        steps = index - self.seen
        return steps > 0 and -self.FASTEST * steps <= start - self.start <= 8

    def confirm(self, start: int, index: int) -> bool:
        """Move on; returns True the one time when that shows that an obstacle came in."""
        counted = self._entering and start < self.start
        self._entering = self._entering and not counted
        self.start, self.seen = start, index
        return counted


def _darkness(frame: np.ndarray) -> np.ndarray:
    """Return float32 [256, 512], 0 for paper and 1 for ink."""
    factor = render.HEIGHT // frame.shape[0] if frame.ndim == 3 else 0
    if factor not in _FACTORS or frame.shape != (render.HEIGHT // factor, render.WIDTH // factor, 3):
        raise ValueError(f"frame of shape {frame.shape}, got that; expected [256, 512, 3] or [128, 256, 3].")
    grey = frame[:, :, 0].astype(np.float32) + frame[:, :, 1] + frame[:, :, 2]
    dark = (255 - grey / 3) / INK
    return dark.repeat(factor, axis=0).repeat(factor, axis=1)


def _find_trex(dark: np.ndarray) -> tuple[int, bool, float]:
    """Return the top row, whether it ducks, and how well that matches (1 is a clean picture)."""
    columns = dark[_HIGHEST_TOP : _STANDING_TOP + 2 + _HEAD_ROWS, _TREX_X : _TREX_X + _TREX_WIDTH]
    matches = _slide(columns, _HEAD_ROWS) @ _template(False).ravel()
    best = int(matches.argmax())
    duck = dark[_DUCKING_TOP : _DUCKING_TOP + 25, _TREX_X : _TREX_X + physics.TREX_DUCK_WIDTH]
    duck_match = float((duck * _template(True)).sum())
    if duck_match > matches[best]:
        return _DUCKING_TOP, True, duck_match
    return _HIGHEST_TOP + best, False, float(matches[best])


def _slide(picture: np.ndarray, rows: int) -> np.ndarray:
    """Return every window of so many whole rows, flat: [places, rows * columns]."""
    flat = np.ascontiguousarray(picture).ravel()
    step = picture.shape[1]
    return sliding_window_view(flat, rows * step)[::step]


@functools.cache
def _template(ducking: bool) -> np.ndarray:
    """Return weights whose sum over a picture is the mean darkness of the ink less that of the paper."""
    sprites = render.sprites(1)
    if ducking:
        return _contrast(sprites["duck", 0] < 255)
    return _contrast(sprites[Status.JUMPING, 0][:_HEAD_ROWS] < 255)


def _contrast(ink: np.ndarray) -> np.ndarray:
    paper = ~_grow(ink, 1)
    return ink / ink.sum() - paper / paper.sum()


def _grow(mask: np.ndarray, reach: int) -> np.ndarray:
    """Widen a mask by `reach` pixels to all sides."""
    padded = np.pad(mask, reach)
    return sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1)).any(axis=(2, 3))


@functools.cache
def _trex_mask(ducking: bool) -> np.ndarray:
    """Return every pixel that any picture of the T-rex may cover, with a seam of 2, bool [rows + 4, columns + 4]."""
    sprites = render.sprites(1)
    names = [("duck", 0), ("duck", 1)] if ducking else [(s, 0) for s in Status] + [(Status.RUNNING, 1)]
    ink = np.logical_or.reduce([sprites[name] < 255 for name in names])
    return _grow(np.pad(ink, 2), 2)


def _trex_seam(top: int, ducking: bool) -> np.ndarray:
    """Return the pixels that the T-rex hides, bool [256, 512]."""
    seam = np.zeros((render.HEIGHT, render.WIDTH), bool)
    mask = _trex_mask(ducking)
    seam[top - 2 : top - 2 + mask.shape[0], _TREX_X - 2 : _TREX_X - 2 + mask.shape[1]] = mask
    return seam


def _sees_panel(dark: np.ndarray) -> bool:
    return min(_panel_match(dark, name) for name in ("game over", "restart")) >= _MIN_PANEL


def _panel_match(dark: np.ndarray, name: str) -> float:
    rows, columns = _panel_box(name)
    return float((dark[rows, columns] * _panel_template(name)).sum())


@functools.cache
def _panel_template(name: str) -> np.ndarray:
    ink = render.sprites(1)[name] < 255
    return ink / ink.sum() - ~ink / (~ink).sum()


def _panel_box(name: str) -> tuple[slice, slice]:
    height, width = render.sprites(1)[name].shape
    x, y = (render.PANEL_TEXT_X, render.PANEL_TEXT_Y) if name == "game over" else (render.RESTART_X, render.RESTART_Y)
    return slice(render.STRIP_TOP + y, render.STRIP_TOP + y + height), slice(x, x + width)


def _obstacle_ink(dark: np.ndarray) -> np.ndarray:
    """Return the ink, 0 to 1, in the rows of obstacles that is neither T-rex nor panel, [rows of the band, 512]."""
    ink = np.clip((dark - 0.4) / 0.6, 0, 1)  # clouds (0.2) and noise are less
    top, ducking, match = _find_trex(dark)
    if match >= _MIN_TREX:
        ink[_trex_seam(top, ducking)] = 0
    if _sees_panel(dark):
        for name in ("game over", "restart"):
            ink[_panel_box(name)] = 0
    return ink[_BAND]


def _spans(ink: np.ndarray) -> list[tuple[int, int]]:
    """Group columns with ink into obstacles; neighbours in a game are far further apart than the holes in a group."""
    columns = np.flatnonzero(ink.sum(axis=0) >= _MIN_COLUMN)
    if columns.size == 0:
        return []
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > _MAX_HOLE) + 1)
    spans = [(int(group[0]), int(group[-1]) + 1) for group in groups]
    return [(start, end) for start, end in spans if ink[:, start:end].sum() >= _MIN_AREA]


def _obstacle_near_trex(dark: np.ndarray, hidden: np.ndarray) -> SimpleNamespace | None:
    """Return the obstacle whose picture explains the most ink around the T-rex, as far as that does not hide it."""
    pad = np.full((_BAND.stop - _BAND.start, _LEFT), 0, np.float32)
    seen = np.hstack([pad, ~hidden[_BAND, :_NEAR]]).T  # columns become rows, so that windows slide along x
    ink = np.hstack([pad, np.clip(dark[_BAND, :_NEAR], 0, 1)]).T * seen
    if ink[:, : render.STRIP_TOP + physics.GROUND_TOP - _BAND.start].sum() < _MIN_EXPLAINED:
        return None
    best, best_value = None, _MIN_EXPLAINED
    for kind, size, y, picture in _obstacle_pictures():
        top = render.STRIP_TOP + y - _BAND.start
        rows = slice(top, top + picture.shape[1])
        # a pixel of the picture's ink is worth 2 dark - 1, one of its paper - dark, a hidden one nothing
        gains = _slide(3 * ink[:, rows] - seen[:, rows], len(picture)) @ picture.ravel()
        upto = np.concatenate([[0.0], ink[:, rows].sum(axis=1).cumsum()])
        values = gains - (upto[len(picture) :] - upto[: -len(picture)])
        place = int(values.argmax())
        if values[place] > best_value:
            best_value = values[place]
            boxes = group_boxes(kind, size)
            best = SimpleNamespace(kind=kind, x=place - _LEFT, y=y, width=kind.width * size, boxes=boxes)
    return best


@functools.cache
def _obstacle_pictures() -> list[tuple[ObstacleType, int, int, np.ndarray]]:
    """Return kind, size, y and the ink [columns, rows] of all obstacles, cut at the end of the band."""
    pictures = []
    for name, picture in render.sprites(1).items():
        kind = next((kind for kind in OBSTACLE_TYPES if isinstance(name, tuple) and name[0] == kind.name), None)
        for y in kind.ys if kind else ():
            ink = picture[: _BAND.stop - render.STRIP_TOP - y] < 255
            pictures.append((kind, name[1], y, np.ascontiguousarray(ink.T, np.float32)))
    return pictures
