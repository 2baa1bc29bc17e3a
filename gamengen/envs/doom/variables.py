"""The game variables that are recorded and rewarded, by our names, out of ViZDoom's; knows no process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from vizdoom import GameVariable

from gamengen.envs.doom.scenarios import nearest

# our name -> the sum of these
SOURCES = {
    "health": ("HEALTH",),
    "armor": ("ARMOR",),
    "weapon": ("SELECTED_WEAPON",),
    "ammo": ("SELECTED_WEAPON_AMMO",),
    "bullets": ("AMMO2",),  # a slot's ammunition is that of its first weapon; slots 4 and 7 share with 2 and 6
    "shells": ("AMMO3",),
    "rockets": ("AMMO5",),
    "cells": ("AMMO6",),
    "weapons": tuple(f"WEAPON{slot}" for slot in range(1, 8)),
    "kills": ("KILLCOUNT",),  # monsters and, in a deathmatch, players
    "hits": ("HITCOUNT",),
    "hits_taken": ("HITS_TAKEN",),
    "damage": ("DAMAGECOUNT",),
    "damage_taken": ("DAMAGE_TAKEN",),
    "items": ("ITEMCOUNT",),
    "secrets": ("SECRETCOUNT",),
    "dead": ("DEAD",),
    "x": ("POSITION_X",),
    "y": ("POSITION_Y",),
    "z": ("POSITION_Z",),
    "angle": ("ANGLE",),
    "pitch": ("PITCH",),
    "velocity_x": ("VELOCITY_X",),
    "velocity_y": ("VELOCITY_Y",),
    "velocity_z": ("VELOCITY_Z",),
}
NAMES = tuple(SOURCES)
_COUNTERS = ("kills", "hits", "hits_taken", "damage", "damage_taken", "items", "secrets")  # the engine never resets all


class Reader:
    """Turns ViZDoom's values into ours; counters count from `begin` on.

    Args:
        more: further variables of ViZDoom by their lower-case names, such as "user1".

    Raises:
        ValueError: a variable that ViZDoom does not have.
    """

    def __init__(self, more: Sequence[str] = ()) -> None:
        known = {name.lower(): (name,) for name in GameVariable.__members__}
        for name in more:
            if name not in SOURCES and name not in known:
                raise ValueError(f"unknown game variable {name!r}; {nearest(name, [*SOURCES, *known])}")
        sources = {**SOURCES, **{name: known[name] for name in more if name not in SOURCES}}
        self.names = tuple(sources)
        self.wanted = [GameVariable.__members__[name] for name in dict.fromkeys(sum(sources.values(), ()))]
        column = {variable.name: index for index, variable in enumerate(self.wanted)}
        self._columns = {name: [column[part] for part in parts] for name, parts in sources.items()}
        self._base: dict[str, float] = {}

    def begin(self, values: np.ndarray) -> dict[str, float]:
        """Read the first frame's values (in the order of `wanted`), from which counters count."""
        self._base = {}
        first = self.read(values)
        self._base = {name: first[name] for name in _COUNTERS}
        return self.read(values)

    def read(self, values: np.ndarray) -> dict[str, float]:
        """Read a frame's values, in the order of `wanted`; health ends at 0, as on the screen."""
        numbers = values.tolist()  # so few are faster in Python
        ours = {
            name: numbers[columns[0]] if len(columns) == 1 else sum([numbers[column] for column in columns])
            for name, columns in self._columns.items()
        }
        for name, base in self._base.items():
            ours[name] -= base
        ours["health"] = max(ours["health"], 0.0)
        return ours
