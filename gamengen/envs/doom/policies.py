"""A player without learning, who sees only the env's `info`: explores by feel, shoots what `labels` show; no pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gamengen.envs.doom import actions
from gamengen.envs.doom.engine import WIDTH

_ACTION = {name: index for index, name in enumerate(actions.NAMES)}
_STUCK_SPEED = 2.0  # map units per tic; a running player makes 15
_AIMED = 10  # pixels beside the middle at which a shot still hits
_STRAFE = ("left", "right")


class ScriptedPolicy:
    """Runs through a level, turns away from walls, tries doors, fires now and then.

    With the env's `labels=True` it turns to the largest monster (or bot) in sight and fires until it falls. Without,
    it is an explorer that shoots at random.

    Args:
        decision_frames: calls of `action` for which a decision holds. 1 for who holds its actions anyway, as recording
            does; for who asks at every frame, 2 are the paper's 4 tics.
        fire: chance of a burst per decision in which nothing is to be seen.
    """

    def __init__(self, decision_frames: int = 1, fire: float = 0.08) -> None:
        self._decision_frames, self._fire = decision_frames, fire
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; everything random in it comes from `rng`."""
        self._rng = rng
        self._action, self._frames_left = 0, 0
        self._moved = False  # forward was pressed in the last decision: only then is no speed a wall
        self._turning, self._turn_left = "", 0

    def action(self, info: dict[str, Any]) -> int:
        """Return the action until the next call, as an index."""
        if self._frames_left == 0:
            self._action = _ACTION[self._decide(info)]
            self._frames_left = self._decision_frames
        self._frames_left -= 1
        return self._action

    def _decide(self, info: dict[str, Any]) -> str:
        target = self._target(info)
        if target is not None:
            return self._attack(target)
        state = info["variables"]
        stuck = self._moved and math.hypot(state["velocity_x"], state["velocity_y"]) < _STUCK_SPEED
        self._moved = False
        if self._turn_left > 0:
            self._turn_left -= 1
            return self._turning
        if stuck:
            if self._rng.random() < 0.3:
                return "use"  # the wall may be a door
            self._turn(self._rng.integers(2, 8))
            return self._turning
        if self._rng.random() < 0.06:
            self._turn(self._rng.integers(1, 4))
        turn = self._turning if self._turn_left > 0 else ""
        move = "forward" if self._rng.random() < 0.95 else f"forward+{self._rng.choice(_STRAFE)}"
        self._moved = True
        return actions.name_of(move, turn, "attack" if self._rng.random() < self._fire else "")

    def _turn(self, decisions: int) -> None:
        self._turning, self._turn_left = str(self._rng.choice(actions.TURNS[1:])), int(decisions)

    def _target(self, info: dict[str, Any]) -> tuple[float, float] | None:
        """Return how far right of the middle the largest enemy in sight is and its width, in pixels."""
        seen = [
            (width * height, x + width / 2 - WIDTH / 2, width)
            for name, category, x, _, width, height in info.get("labels", ())
            if category == "Monster" or (category == "Player" and name != "Self")
        ]
        return max(seen)[1:] if seen else None

    def _attack(self, target: tuple[float, float]) -> str:
        offset, width = target
        self._moved, self._turn_left = False, 0
        aimed = abs(offset) < max(_AIMED, width / 2)
        turn = "" if abs(offset) < _AIMED else "turn_right" if offset > 0 else "turn_left"
        dodge = str(self._rng.choice(_STRAFE)) if self._rng.random() < 0.3 else ""
        return actions.name_of(dodge, turn, "attack" if aimed else "")
