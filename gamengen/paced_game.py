"""A game that runs at a pace of its own and costs no CPU: with it one machine shows what a cluster of many would do.

Its picture is the number of the frame in the bits of 64 squares, so that what was recorded can be checked.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from gamengen.game import GameSpec

_SIDE = 16  # pixels

SPEC = GameSpec(
    name="gamengen.paced_game",
    height=_SIDE,
    width=_SIDE,
    frames_per_second=20.0,
    tics_per_frame=1,
    actions=("none",),
    keyboard={},
)


class PacedEnv(gymnasium.Env[np.int64, np.int64]):
    """Never ends by itself; sleeps until its next frame is due, as a game in real time does."""

    game_spec = SPEC
    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(1)

    def __init__(self, pace: float, notes: str | None) -> None:
        self._pace, self._notes = pace, None if notes is None else Path(notes)
        self._begun, self._frame = 0.0, 0

    def reset(self, **_: Any) -> tuple[np.int64, dict[str, Any]]:
        if self._notes is not None:
            self._notes.mkdir(parents=True, exist_ok=True)
            with (self._notes / str(os.getpid())).open("a") as note:
                note.write(f"{time.time()}\n")
        self._begun, self._frame = time.perf_counter(), 0
        return np.int64(0), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        self._frame += 1
        time.sleep(max(0.0, self._begun + self._frame / self._pace - time.perf_counter()))
        return np.int64(0), 0.0, False, False, {}

    def render(self) -> np.ndarray:
        return picture(self._frame)


def picture(frame: int) -> np.ndarray:
    """Return the frame of a number, uint8 [16, 16, 3]."""
    bits = np.array([frame >> place & 1 for place in range(64)], np.uint8).reshape(8, 8)
    return np.repeat(np.kron(bits * np.uint8(255), np.ones((2, 2), np.uint8))[:, :, None], 3, axis=2)


def make(pace: float = SPEC.frames_per_second, notes: str | None = None) -> PacedEnv:
    """Make the env; there is nothing to observe.

    Args:
        pace: frames per second of the clock on the wall.
        notes: a folder in which every process notes when its episodes began.

    Raises:
        ValueError: a pace at which no frame would ever come.
    """
    if pace <= 0:
        raise ValueError(f"game.options pace, got {pace}; expected more than 0 frames per second.")
    return PacedEnv(pace, notes)
