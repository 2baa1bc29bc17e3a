"""What is on DOOM's screen, by the engine's own labels; see `gamengen.envs.Contents`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = ("enemies", "items")
OPTIONS = {"labels": True, "observation": "none"}

_ITEMS = ("Health", "Armor", "Ammo", "Weapon", "Key", "PowerUp")
_MIN_AREA = 150  # pixels of the box: smaller ones are hard to tell


def boxes(info: Mapping[str, Any]) -> list[tuple[int, int, int, int, int]]:
    """Return (index into KINDS, x, y, width, height) of everything large enough to be told, in visible pixels."""
    found = []
    for name, category, x, y, width, height in info["labels"]:
        is_enemy = category == "Monster" or (category == "Player" and name != "Self")
        if width * height >= _MIN_AREA and (is_enemy or category in _ITEMS):
            found.append((0 if is_enemy else 1, x, y, width, height))
    return found
