"""A game of noise, whose frames no codec makes smaller; it notes every episode in a file, so that a test can count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from gamengen.game import GameSpec

SPEC = GameSpec(
    name="tests.collect.noise",
    height=256,
    width=256,
    frames_per_second=20.0,
    tics_per_frame=1,
    actions=("none",),
    keyboard={},
)


class NoiseEnv(gymnasium.Env[np.int64, np.int64]):
    """Never ends by itself."""

    game_spec = SPEC
    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(1)

    def __init__(self, notes: str) -> None:
        self._notes = Path(notes)
        self._rng = np.random.default_rng(0)

    def reset(self, **_: Any) -> tuple[np.int64, dict[str, Any]]:
        with self._notes.open("a") as notes:
            notes.write("episode\n")
        return np.int64(0), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        return np.int64(0), 0.0, False, False, {}

    def render(self) -> np.ndarray:
        return self._rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)


def make(notes: str, observation: str = "none") -> NoiseEnv:
    return NoiseEnv(notes)
