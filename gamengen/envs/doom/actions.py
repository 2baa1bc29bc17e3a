"""The 43 actions of the game `doom`: their names, the buttons behind them and the keys; knows nothing of ViZDoom."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MOVES = ("", "forward", "back", "left", "right", "forward+left", "forward+right")
TURNS = ("", "turn_left", "turn_right")
FIRE = ("", "attack")

# the order in which the engine gets them; named after ViZDoom's Button
BUTTONS = (
    "MOVE_FORWARD",
    "MOVE_BACKWARD",
    "MOVE_LEFT",
    "MOVE_RIGHT",
    "TURN_LEFT",
    "TURN_RIGHT",
    "ATTACK",
    "USE",
    "SPEED",
)
_PARTS = ("forward", "back", "left", "right", "turn_left", "turn_right", "attack", "use")  # of BUTTONS but SPEED
_BUTTON_OF = dict(zip(_PARTS, BUTTONS, strict=False))


def name_of(move: str = "", turn: str = "", fire: str = "") -> str:
    """Return the name of a combination, such as "forward+turn_left+attack"; nothing at all is "none"."""
    return "+".join(part for part in (move, turn, fire) if part) or "none"


NAMES = tuple(name_of(move, turn, fire) for move in MOVES for turn in TURNS for fire in FIRE) + ("use",)

# Keys held together are joined to one of the combinations (`GameSpec.joined`), so no key needs to be one.
KEYBOARD = {
    "KeyW": "forward",
    "ArrowUp": "forward",
    "KeyS": "back",
    "ArrowDown": "back",
    "KeyA": "left",
    "KeyD": "right",
    "ArrowLeft": "turn_left",
    "ArrowRight": "turn_right",
    "Space": "attack",
    "KeyF": "attack",
    "KeyE": "use",
}


def buttons(name: str) -> list[float]:
    """Return the state of `BUTTONS`, 0 or 1, for an action's name; run is always on."""
    held = name.split("+")
    return [float(part in held) for part in _PARTS] + [1.0]


PRESSED = tuple(buttons(name) for name in NAMES)  # by action index


def within(allowed: Collection[str]) -> tuple[str, ...]:
    """Return the names of those actions that need no other of `BUTTONS` than the allowed ones, and "none"."""
    return tuple(
        name for name in NAMES if name == "none" or all(_BUTTON_OF[part] in allowed for part in name.split("+"))
    )


def keyboard(names: Sequence[str]) -> dict[str, str]:
    """Return the keys for some of the actions."""
    return {key: name for key, name in KEYBOARD.items() if name in names}
