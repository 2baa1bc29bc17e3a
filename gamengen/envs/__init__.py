"""The games: every module or package in this folder is one, found by its name; nothing is listed anywhere."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType
from typing import Any

import gymnasium


def names() -> list[str]:
    """Return the names of the games shipped in this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """Import a game by its name here or by the import path of your own module.

    The module has `SPEC: GameSpec` and `make(**options) -> gymnasium.Env`; the env's `unwrapped.game_spec` is the SPEC
    with what the options changed (frame size, rate).

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


def make(name: str, **options: Any) -> gymnasium.Env:
    """Make the env of a game: `make("chrome_dino", frame_tics=1)`."""
    return load(name).make(**options)


for _name in names():  # an entry point is a string: registering a game does not import it
    gymnasium.register(
        id=f"gamengen/{''.join(part.title() for part in _name.split('_'))}-v0",
        entry_point=f"{__name__}.{_name}:make",
    )
