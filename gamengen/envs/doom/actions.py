"""The 43 actions of the game `doom`: their names, the buttons behind them and the keys; knows nothing of ViZDoom."""

from __future__ import annotations

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


def name_of(move: str = "", turn: str = "", fire: str = "") -> str:
    """Return the name of a combination, such as "forward+turn_left+attack"; nothing at all is "none"."""
    return "+".join(part for part in (move, turn, fire) if part) or "none"


NAMES = tuple(name_of(move, turn, fire) for move in MOVES for turn in TURNS for fire in FIRE) + ("use",)

# One key, one action: of several held keys the page counts the last pressed. A name is made of its parts in the order
# move, turn, attack, so that a page that can join held keys finds the combination by joining their names.
KEYBOARD = {
    "KeyW": "forward",
    "ArrowUp": "forward",
    "KeyS": "back",
    "ArrowDown": "back",
    "KeyA": "left",
    "KeyD": "right",
    "ArrowLeft": "turn_left",
    "ArrowRight": "turn_right",
    "KeyQ": "forward+turn_left",
    "KeyE": "forward+turn_right",
    "Space": "attack",
    "KeyF": "forward+attack",
    "KeyR": "use",
}


def buttons(name: str) -> list[float]:
    """Return the state of `BUTTONS`, 0 or 1, for an action's name; run is always on."""
    held = name.split("+")
    return [float(part in held) for part in _PARTS] + [1.0]


PRESSED = tuple(buttons(name) for name in NAMES)  # by action index
