"""The paper's reward (A.5), term by term, from the game's variables; knows nothing of ViZDoom.

The paper gives the terms and their sizes. What it leaves open is a setting here:

* `cell_size` of the grid that says what a new area is. 128 map units, two of DOOM's floor tiles and four times as wide
  as the player, is what a running player crosses in a third of a second: small enough to reward every room and
  corridor, large enough not to pay for stepping to and fro. The L1 distance is counted in cells, too: in map units one
  new area far from the start would outweigh every kill.
* `area_origin`, from where that distance is measured. "start" is where the player begins the episode, so that the
  reward pulls away from there; "map" is the map's own origin (0, 0), which means nothing to a player but is the same
  for every start of a deathmatch.

And what each word means in variables:

* hits count every damaging blow: "player hit" includes slime and fire, "enemy hit" includes barrels.
* items are what a level counts (bonuses, armor, spheres, artifacts); medikits and ammunition show in their own terms.
* who lives again (in a deathmatch) has found nothing: that frame changes nothing but where the player is.
* ammunition is the sum over all four kinds, so that a change of weapon is no change of ammunition.
"""

from __future__ import annotations

from collections.abc import Mapping

ORIGINS = ("start", "map")
CELL_SIZE = 128.0

PLAYER_HIT, PLAYER_DEATH, ENEMY_HIT, ENEMY_KILL, PICK_UP, SECRET = -100.0, -5000.0, 300.0, 1000.0, 100.0, 500.0
NEW_AREA, PER_CELL = 20.0, 0.5
PER_HEALTH, PER_ARMOR, PER_AMMO_FOUND = 10.0, 10.0, 10.0

AMMO = ("bullets", "shells", "rockets", "cells")
NEEDS = ("hits_taken", "dead", "hits", "kills", "items", "weapons", "secrets", "x", "y", "health", "armor", *AMMO)
TERMS = (
    "player_hit",
    "player_death",
    "enemy_hit",
    "enemy_kill",
    "pick_up",
    "secret",
    "new_area",
    "health",
    "armor",
    "ammo",
)


class PaperReward:
    """Remembers what was and where the player has been in an episode, and pays the difference.

    Args:
        cell_size: side of a cell of the area grid, in map units; see the module's docstring.
        area_origin: "start" or "map".
    """

    def __init__(self, cell_size: float = CELL_SIZE, area_origin: str = "start") -> None:
        if not cell_size > 0:
            raise ValueError(f"cell_size, got {cell_size!r}; expected a positive number of map units, such as 128.")
        if area_origin not in ORIGINS:
            raise ValueError(f"area_origin, got {area_origin!r}; expected one of {ORIGINS}.")
        self._cell_size, self._from_start = cell_size, area_origin == "start"
        self._before: dict[str, float] = {}
        self._origin = (0.0, 0.0)
        self._seen: set[tuple[int, int]] = set()

    def reset(self, variables: Mapping[str, float]) -> None:
        """Begin an episode with the variables (`NEEDS`) of its first frame; the cell of the start is no new area."""
        self._before = dict(variables)
        self._origin = (variables["x"], variables["y"]) if self._from_start else (0.0, 0.0)
        self._seen = {self._cell(variables)}

    def step(self, variables: Mapping[str, float]) -> dict[str, float]:
        """Return what each of `TERMS` pays for the way from the last frame to this one; their sum is the reward."""
        before, self._before = self._before, dict(variables)
        if before["dead"] and not variables["dead"]:
            self._seen.add(self._cell(variables))
            return dict.fromkeys(TERMS, 0.0)
        delta = {name: variables[name] - before[name] for name in NEEDS}
        ammo = sum(delta[name] for name in AMMO)
        return {
            "player_hit": PLAYER_HIT * max(delta["hits_taken"], 0.0),
            "player_death": PLAYER_DEATH * max(delta["dead"], 0.0),
            "enemy_hit": ENEMY_HIT * max(delta["hits"], 0.0),
            "enemy_kill": ENEMY_KILL * max(delta["kills"], 0.0),
            "pick_up": PICK_UP * (max(delta["items"], 0.0) + max(delta["weapons"], 0.0)),
            "secret": SECRET * max(delta["secrets"], 0.0),
            "new_area": self._area(variables),
            "health": PER_HEALTH * delta["health"],
            "armor": PER_ARMOR * delta["armor"],
            "ammo": PER_AMMO_FOUND * max(0.0, ammo) + min(0.0, ammo),
        }

    def _area(self, variables: Mapping[str, float]) -> float:
        cell = self._cell(variables)
        if cell in self._seen:
            return 0.0
        self._seen.add(cell)
        return NEW_AREA * (1 + PER_CELL * (abs(cell[0]) + abs(cell[1])))

    def _cell(self, variables: Mapping[str, float]) -> tuple[int, int]:
        """Return the cell the player is in; the origin is the middle of cell (0, 0)."""
        x, y = variables["x"] - self._origin[0], variables["y"] - self._origin[1]
        return round(x / self._cell_size), round(y / self._cell_size)
