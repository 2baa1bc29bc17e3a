"""Players without learning, who see only the env's `info`: for recording, tests and comparisons; no pixels, no Ray."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gamengen.envs.chrome_dino.physics import DUCK, JUMP, NONE, TREX_WIDTH, TREX_X

_HALF_JUMP = 17.5  # updates from the press to the top
_TRIGGER = _HALF_JUMP + 1.5  # half a frame early, since one looks only once per frame of 3 updates
_DUCK_BEFORE = 9.0  # updates before contact at which the key should be down
_HIGH, _MIDDLE = 50, 75  # y of pterodactyls: run under the first, duck under the second, jump over the third


def time_to_contact(info: dict[str, Any], obstacle: dict[str, Any]) -> tuple[float, float]:
    """Return in how many updates an obstacle reaches the T-rex and in how many it has passed it."""
    pixels_per_update = math.floor(info["speed"])
    start = (obstacle["x"] - TREX_X - TREX_WIDTH) / pixels_per_update
    return start, (obstacle["x"] + obstacle["width"] - TREX_X) / pixels_per_update


def scripted_action(info: dict[str, Any], rng: np.random.Generator, skill: float = 1.0) -> int:
    """Return what the situation asks for right now: an action as an index.

    With skill 1 it is in time for every obstacle at every speed. Below, time is misjudged by a normal error of
    (1 - skill) * 8 updates, and there are moments in which nothing is noticed.
    """
    if skill < 1 and rng.random() < (1 - skill) * 0.3:
        return NONE
    error = rng.normal(0, (1 - skill) * 8) if skill < 1 else 0.0
    for obstacle in info["obstacles"]:
        start, end = (moment + error for moment in time_to_contact(info, obstacle))
        if end <= 0:
            continue
        is_bird = obstacle["type"] == "pterodactyl"
        if is_bird and obstacle["y"] == _MIDDLE:
            return DUCK if start < _DUCK_BEFORE else NONE
        if (is_bird and obstacle["y"] == _HIGH) or info["jumping"]:
            return NONE
        return JUMP if (start + end) / 2 < _TRIGGER else NONE
    return NONE


class ScriptedPolicy:
    """Plays like a person with moods: a skill per episode, keys held for natural times, needless jumps and ducks.

    Args:
        skill: 1 plays without a mistake (but for its own needless moves, which then wait for free ground); None draws
            one per episode.
        playfulness: needless moves per frame in which nothing is to do.
    """

    def __init__(self, skill: float | None = None, playfulness: float = 0.02) -> None:
        self._fixed_skill = skill
        self._playfulness = playfulness
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; everything random in it comes from `rng`."""
        self._rng = rng
        drawn = 1.0 if rng.random() < 0.3 else 1 - 0.5 * rng.random()
        self.skill = drawn if self._fixed_skill is None else self._fixed_skill
        self._held, self._frames_left = NONE, 0

    def action(self, info: dict[str, Any]) -> int:
        """Return the key to hold during the next frame."""
        needed = scripted_action(info, self._rng, self.skill)
        if self._frames_left > 0 and not (needed == DUCK and self._held != DUCK):
            self._frames_left -= 1
            if needed == NONE or needed == self._held or self._held == JUMP:
                return self._held
        if needed == NONE:
            needed = self._play(info)
        elif needed == JUMP and (self._held == JUMP or info["ducking"]):
            needed = NONE  # a key must come up before it can go down again; no jump starts from a duck
        self._held = needed
        self._frames_left = self._duration(needed, info) - 1
        return needed

    def _play(self, info: dict[str, Any]) -> int:
        """Return a needless move, now and then: a hop or a duck on free ground, a drop in the air."""
        caution = 0.5 + 0.5 * self.skill
        free = min((start for start, end in self._ahead(info) if end > 0), default=100.0)
        if info["jumping"]:
            falling_free = info["velocity"] > -2 and free > 25 * caution
            return DUCK if falling_free and self._rng.random() < 0.08 else NONE
        if self._rng.random() >= self._playfulness:
            return NONE
        if self._rng.random() < 0.5 and free > 62 * caution:
            return JUMP
        return DUCK if free > 35 * caution else NONE

    def _ahead(self, info: dict[str, Any]) -> list[tuple[float, float]]:
        return [time_to_contact(info, obstacle) for obstacle in info["obstacles"]]

    def _duration(self, action: int, info: dict[str, Any]) -> int:
        """Draw for how many frames (of 3 updates) a key stays down."""
        if action == JUMP:
            danger = any(0 < end < 60 for _, end in self._ahead(info))
            return int(self._rng.integers(3, 5) if danger else self._rng.integers(1, 5))
        if action == DUCK:
            return int(self._rng.integers(2, 7))
        return 1
