"""The games: every module or package in this folder is one, found by its name; nothing is listed anywhere."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

import gymnasium
import numpy as np

from gamengen.game import GameSpec


class GameDied(RuntimeError):
    """A game that runs outside of this process has ended; the episode in play is lost, `reset` begins a new game."""


class FramePlayer(Protocol):
    """Plays N games by their frames alone, and tells what it saw on the last ones, bool [N] each.

    Attributes:
        over: the game is over.
        entered: a new event (an obstacle, an enemy) has come into the picture.
        contact: what ends the game will reach the player by the next frame, and the player does nothing about it.
        pressed: the restart action is taken in game over.
    """

    over: np.ndarray
    entered: np.ndarray
    contact: np.ndarray
    pressed: np.ndarray

    def act(self, frames: np.ndarray) -> list[int]:
        """Look at uint8 [N, H, W, 3] and return the actions."""


class Probes(Protocol):
    """What a game may offer as `PROBES` (a module or an object), so that an evaluation can judge pictures of it.

    Frames are uint8 [N, H, W, 3], real or generated, without the game's padding. A game without probes is evaluated by
    its pixels alone.

    Attributes:
        QUIET_FRAMES: frames after a start in which nothing comes.
        FOLLOWED_WITHIN: action -> within how many frames the picture must show it, from a free state; empty where a
            single frame does not show what was done.
    """

    QUIET_FRAMES: int
    FOLLOWED_WITHIN: Mapping[str, int]

    def is_free(self, frames: np.ndarray) -> np.ndarray:
        """Return where every action would have its plain effect: alive, at rest, nothing near; bool [N]."""

    def shows(self, action: str, frames: np.ndarray) -> np.ndarray:
        """Return whether each frame shows the action's effect, bool [N]."""

    def static_regions(self, height: int, width: int) -> Mapping[str, tuple[slice, slice]]:
        """Return rows and columns of what stands still in frames of this size."""

    def player(self, seeds: Sequence[int], game: GameSpec, carelessness: float = ...) -> FramePlayer:
        """Return a player of one game per seed; `game` has the actions in force, `carelessness` is the share of dangers
        that it ignores."""


def names() -> list[str]:
    """Return the names of the games shipped in this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """Import a game by its name here or by the import path of your own module.

    The module has `SPEC: GameSpec` and `make`, which takes `game.options` and, if it has an argument of that name,
    `agent.observation`, and returns a gymnasium.Env; the env's `unwrapped.game_spec` is the SPEC with what the options
    changed (frame size, rate), and may have `view_frame()`, as `render` but an array that the next step may change, for
    recorders: to copy a large frame costs as much as to draw it. The module may have, for
    the evaluation, `PROBES: Probes` and `REGIONS(height, width)`, which returns (rows, columns) of small things that
    matter by their names; where an engine is behind the env, `play_raw(plays, **options)`, which plays that with
    nothing around it and yields what it shows after each action, for the benchmark (`plays`: a seed and the actions of
    each episode; options as of `make`); where observations cost more than the game, `UNOBSERVED`, options that go
    without, for players that do not look; `LICENCE`, see `licence`; and `PLAYABLE = False` where there are recordings
    of the game and nothing to play.

    Raises:
        ValueError: no such game, or the module lacks `SPEC` or `make`.
    """
    path = name if "." in name else f"{__name__}.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise  # the game exists, something that it imports does not
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names())} or an import path."
        raise ValueError(f"unknown game {name!r}; {hint}") from None
    missing = [attribute for attribute in ("SPEC", "make") if not hasattr(module, attribute)]
    if missing:
        raise ValueError(f"module {path} is not a game: it has no {' and no '.join(missing)}.")
    return module


def require_playable(name: str) -> None:
    """Raise a ValueError for a game that only exists in recordings."""
    if not getattr(load(name), "PLAYABLE", True):
        raise ValueError(
            f"the game {name!r} cannot be played: there are only recordings of it. "
            "Set collect.import=<folder> to take them in with jobs.collect, or game.name to a game with an env."
        )


def licence(name: str) -> dict[str, str]:
    """Return under which licence a game's pictures are, and so what a model draws: the game's `LICENCE`.

    Returns:
        `id`, as the Hugging Face hub calls it, and `text`, a sentence or two.
    """
    unknown = "The model can draw what it saw in training; the licence of this game's pictures is not known. "
    unknown += "Say here what it is before you share the model."
    return dict(getattr(load(name), "LICENCE", {"id": "other", "text": unknown}))


def make(name: str, **options: Any) -> gymnasium.Env:
    """Make the env of a game: `make("chrome_dino", frame_tics=1)`; raises ValueError for an option that it has not."""
    known = _parameters(name)
    for option in options:
        if known is not None and option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(sorted(known)) or 'none'}."
            raise ValueError(f"unknown option game.options.{option} of the game {name!r}; {hint}")
    return load(name).make(**options)


def takes(name: str, option: str) -> bool:
    """Return whether a game's `make` has an option of this name."""
    known = _parameters(name)
    return known is None or option in known


def _parameters(name: str) -> set[str] | None:
    """Return the names of what a game's `make` takes; None where it takes whatever there is and judges for itself."""
    parameters = inspect.signature(load(name).make).parameters.values()
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return None if is_open else {parameter.name for parameter in parameters}


for _name in names():  # an entry point is a string: registering a game does not import it
    gymnasium.register(
        id=f"gamengen/{''.join(part.title() for part in _name.split('_'))}-v0",
        entry_point=f"{__name__}.{_name}:make",
    )
