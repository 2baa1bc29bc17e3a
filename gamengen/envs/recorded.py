"""A game of which there are only recordings: its GameSpec comes from `game.options`, and nothing of it can be played.

For play, driving or robot logs that were recorded elsewhere and come in by `collect.import`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import gymnasium
import numpy as np

from gamengen.game import GameSpec

PLAYABLE = False
SPEC = GameSpec("recorded", 128, 256, 20.0, 1, ("none",), {})  # an example: every recorded game has its own
_REQUIRED = ("height", "width", "frames_per_second", "actions")
_OPTIONAL = ("keyboard", "restart_action", "restart_delay", "vectors", "camera")


class RecordedEnv(gymnasium.Env[np.ndarray, np.int64]):
    """Has a spec, and says why it cannot be played.

    Attributes:
        vectors: action name -> the numbers that mean it in recordings whose actions are vectors; the nearest counts.
        camera: which video of recordings that have several.
    """

    def __init__(self, spec: GameSpec, vectors: Mapping[str, Sequence[float]] | None, camera: str | None) -> None:
        self.game_spec, self.vectors, self.camera = spec, vectors, camera
        self.action_space = gymnasium.spaces.Discrete(spec.num_actions)
        self.observation_space = gymnasium.spaces.Box(0, 255, (spec.height, spec.width, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> NoReturn:
        self._refuse()

    def step(self, action: int) -> NoReturn:
        self._refuse()

    def render(self) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            "the game 'recorded' cannot be played: there are only recordings of it. Import them with collect.import."
        )


def make(**options: Any) -> RecordedEnv:
    """Make the spec's env.

    Args:
        options: height, width, frames_per_second and actions, as in GameSpec; if wanted keyboard, restart_action and
            restart_delay, and for vector actions and several cameras `vectors` and `camera`, see RecordedEnv.

    Raises:
        ValueError: a missing or unknown option, or a value that cannot be.
    """
    for key in options:
        if key not in (*_REQUIRED, *_OPTIONAL):
            near = difflib.get_close_matches(key, (*_REQUIRED, *_OPTIONAL), n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown option game.options.{key} of the game 'recorded'; did you mean {near!r}?")
    missing = [key for key in _REQUIRED if key not in options]
    if missing:
        raise ValueError(
            f"the game 'recorded' lacks game.options.{missing[0]}; expected {', '.join(_REQUIRED)}. Set it as the "
            "imported frames shall be."
        )
    spec = _spec(options)
    return RecordedEnv(spec, _vectors(options.get("vectors"), spec), options.get("camera"))


def _spec(options: Mapping[str, Any]) -> GameSpec:
    for key in ("height", "width"):
        if not isinstance(options[key], int):
            raise ValueError(f"game.options.{key}, got {options[key]!r}; expected a whole number of pixels.")
    actions = options["actions"]
    if not isinstance(actions, list | tuple) or not all(isinstance(name, str) for name in actions):
        raise ValueError(f"game.options.actions, got {actions!r}; expected a list of names, that of no key first.")
    if not isinstance(options["frames_per_second"], int | float):
        raise ValueError(f"game.options.frames_per_second, got {options['frames_per_second']!r}; expected a number.")
    keyboard = options.get("keyboard") or {}
    if not isinstance(keyboard, dict):
        raise ValueError(f"game.options.keyboard, got {keyboard!r}; expected keys and actions such as {{ArrowUp: up}}.")
    return GameSpec(
        name=SPEC.name,
        height=options["height"],
        width=options["width"],
        frames_per_second=float(options["frames_per_second"]),
        tics_per_frame=1,
        actions=tuple(actions),
        keyboard=keyboard,
        restart_action=options.get("restart_action"),
        restart_delay=options.get("restart_delay") or 0,
    )


def _vectors(vectors: Any, spec: GameSpec) -> Mapping[str, Sequence[float]] | None:
    if vectors is None:
        return None
    is_whole = isinstance(vectors, dict) and set(vectors) == set(spec.actions)
    if not is_whole or not all(map(_is_vector, vectors.values())) or len(set(map(len, vectors.values()))) != 1:
        raise ValueError(
            f"game.options.vectors, got {vectors!r}; expected for each of {', '.join(spec.actions)} a list of as many "
            "numbers as a recorded action has."
        )
    return vectors


def _is_vector(vector: Any) -> bool:
    return isinstance(vector, list | tuple) and bool(vector) and all(isinstance(n, int | float) for n in vector)
