"""What can be played: scenarios shipped with ViZDoom and maps of a WAD, by name; starts nothing.

A level's name is `<scenario or map>[/<map of the scenario>][+<n>bots]`: `basic`, `deathmatch`, `E1M1`, `MAP01`,
`cig/MAP02+7bots`, `MAP07+4bots`. With bots it is a deathmatch without monsters.
"""

from __future__ import annotations

import difflib
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import vizdoom

from gamengen.envs.doom import actions

PACKAGE = Path(vizdoom.__file__).parent
FREEDOOM = {1: PACKAGE / "freedoom1.wad", 2: PACKAGE / "freedoom2.wad"}  # maps ExMy, maps MAPxx
MAP_TICS = 4200  # a map has no end of its own: two minutes, as long as the scenario deathmatch

_NAME = re.compile(r"(?P<name>\w+)(/(?P<map>\w+))?(\+(?P<bots>\d+)bots)?")
_MAP = re.compile(r"(E\dM\d|MAP\d\d)", re.IGNORECASE)
_SETTING = re.compile(r"^\s*(\w+)\s*=\s*([^\s{}]+)", re.MULTILINE)
_BUTTONS = re.compile(r"^\s*available_buttons\s*=\s*{([^}]*)}", re.MULTILINE | re.IGNORECASE)
_MAX_BOTS = 7  # the engine has eight players


@dataclass(frozen=True)
class Level:
    """A playable level: files, map, and the rules that a scenario sets.

    Attributes:
        name: as it was asked for.
        iwad: the game's data.
        pwad: data on top of it, or None.
        bots: other players.
        deathmatch: against other players: no monsters, and lives do not end.
        skill: 1 (easiest) to 5.
        start_tics: game time before the player may act, in tics of 1/35 s.
        max_tics: the scenario's time limit, counted from the first frame.
        is_scenario: it has a reward of its own.
        is_shipped: all its data comes with ViZDoom.
        buttons: those that the scenario means to be pressed, by ViZDoom's names; None for a map, where all are.
    """

    name: str
    iwad: str
    pwad: str | None
    map: str
    bots: int
    deathmatch: bool
    skill: int
    start_tics: int
    max_tics: int
    living_reward: float
    death_penalty: float
    is_scenario: bool
    is_shipped: bool
    buttons: tuple[str, ...] | None

    @property
    def process(self) -> tuple[str, str | None, int, bool]:
        """What a running engine cannot change: levels of equal `process` are played in one."""
        return self.iwad, self.pwad, self.skill, self.deathmatch


def scenario_names() -> list[str]:
    """Return the scenarios shipped with ViZDoom: its configurations that name a scenario's file."""
    files = sorted((PACKAGE / "scenarios").glob("*.cfg"))
    return [file.stem for file in files if "doom_scenario_path" in _settings(file)]


def wad_maps(path: str | Path) -> tuple[str, list[str]]:
    """Return a WAD's kind, "IWAD" or "PWAD", and the names of its maps in their order.

    Raises:
        ValueError: no such file, or not a WAD.
    """
    kind, lumps = _directory(path)
    return kind, [name for name, _, _ in lumps if _MAP.fullmatch(name)]


def starts(path: str | Path, map_name: str) -> tuple[bool, bool]:
    """Return whether a map can be played alone (a start of player 1 that counts there) and as a deathmatch."""
    lumps = _directory(path)[1]
    first = next(index for index, lump in enumerate(lumps) if lump[0] == map_name)
    of_map: dict[str, tuple[int, int]] = {}
    for name, start, size in lumps[first + 1 : first + 12]:
        of_map.setdefault(name, (start, size))  # the next map's lumps have the same names
    is_text = lumps[first + 1][0] == "TEXTMAP"
    start, size = of_map["TEXTMAP" if is_text else "THINGS"]
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read(size)
    if is_text:
        blocks = re.findall(r"\bthing\b[^{]*{([^}]*)}", data.decode("latin-1"))
        things = [dict(re.findall(r"(\w+)\s*=\s*(\w+)", block)) for block in blocks]
        kinds = [(int(thing.get("type", 0)), thing.get("single") == "true") for thing in things]
    elif "BEHAVIOR" in of_map:  # Hexen's format: a bit says that a thing is there for one player
        usable = data[: len(data) - len(data) % 20]
        kinds = [(thing[5], bool(thing[6] & 0x100)) for thing in struct.iter_unpack("<7h6B", usable)]
    else:  # DOOM's: a bit says that it is not
        usable = data[: len(data) - len(data) % 10]
        kinds = [(thing[3], not thing[4] & 0x10) for thing in struct.iter_unpack("<5h", usable)]
    return (1, True) in kinds, any(kind == 11 for kind, _ in kinds)


def _directory(path: str | Path) -> tuple[str, list[tuple[str, int, int]]]:
    """Return a WAD's kind and its lumps: name, offset, size."""
    expected = "expected the path of a WAD such as doom2.wad. Give the full path on every machine that plays."
    try:
        with open(path, "rb") as file:
            kind, count, offset = struct.unpack("<4sii", file.read(12))
            if kind not in (b"IWAD", b"PWAD"):
                raise ValueError(f"wad, got {str(path)!r}, which begins with {kind!r} and is no WAD; {expected}")
            file.seek(offset)
            directory = file.read(16 * count)
    except OSError as error:
        raise ValueError(f"wad, got {str(path)!r}, which cannot be read ({error.strerror}); {expected}") from None
    except struct.error:
        raise ValueError(f"wad, got {str(path)!r}, which is too short to be a WAD; {expected}") from None
    if len(directory) != 16 * count:
        raise ValueError(f"wad, got {str(path)!r}, which is cut off; {expected}")
    entries = struct.iter_unpack("<ii8s", directory)
    return kind.decode(), [(name.rstrip(b"\0").decode("latin-1").upper(), at, size) for at, size, name in entries]


def resolve(name: str, wad: str | None = None, skill: int | None = None) -> Level:
    """Find a level by its name.

    Args:
        name: see the module's docstring.
        wad: your own game data (an IWAD) or maps on top of Freedoom (a PWAD); None plays Freedoom.
        skill: 1 to 5; None takes the scenario's own, and 3 for a map.

    Raises:
        ValueError: an unknown name (names the nearest), a bad WAD or skill.
    """
    if skill is not None and skill not in range(1, 6):
        raise ValueError(f"skill, got {skill!r}; expected None or 1 to 5.")
    parts = _NAME.fullmatch(name)
    if parts is None or int(parts["bots"] or 0) > _MAX_BOTS:
        raise ValueError(
            f"level, got {name!r}; expected <scenario or map>[/<map>][+<n>bots] with up to {_MAX_BOTS} bots, "
            "such as basic, E1M1, MAP01+4bots."
        )
    bots = int(parts["bots"] or 0)
    if _MAP.fullmatch(parts["name"]) and parts["map"] is None:
        return _map_level(name, parts["name"].upper(), bots, wad, skill)
    file = PACKAGE / "scenarios" / f"{parts['name']}.cfg"
    if parts["name"] not in scenario_names():
        raise ValueError(_unknown(name, parts["name"], [*scenario_names(), *_maps_of(wad)]))
    return _scenario_level(name, file, parts["map"], bots, wad, skill)


def weighted(levels: str | Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    """Return level names with their shares, which sum to 1; a list shares evenly.

    Raises:
        ValueError: nothing to play, or a share that is not positive.
    """
    if isinstance(levels, str):
        levels = [levels]
    weights = dict(levels) if isinstance(levels, Mapping) else dict.fromkeys(levels, 1.0)
    bad = [name for name, weight in weights.items() if not isinstance(weight, (int, float)) or not weight > 0]
    if bad or not weights:
        raise ValueError(
            f"levels, got {levels!r}; expected names, or names with positive shares: {{MAP01: 2, basic: 1}}."
        )
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def meant_actions(levels: Iterable[Level]) -> tuple[str, ...]:
    """Return the names of the actions whose buttons the scenarios mean to be pressed; raises ValueError for a map."""
    allowed: set[str] = set()
    for level in levels:
        if level.buttons is None:
            raise ValueError(
                f"actions, got 'scenario' for level {level.name!r}, which says nothing of buttons; expected 'all', or "
                "only scenarios in levels."
            )
        allowed.update(level.buttons)
    return actions.within(allowed)


def nearest(what: str, known: Sequence[str]) -> str:
    """Return a hint: the nearest known name, or all of them."""
    near = {name.lower(): name for name in known}
    found = difflib.get_close_matches(what.lower(), list(near), n=1, cutoff=0.5)
    return f"did you mean {near[found[0]]!r}?" if found else f"expected one of {', '.join(known)}."


def _map_level(name: str, map_name: str, bots: int, wad: str | None, skill: int | None) -> Level:
    iwad, pwad = str(FREEDOOM[1 if map_name.startswith("E") else 2]), None
    if wad is not None:
        kind, maps = wad_maps(wad)
        if kind == "IWAD":
            iwad = str(Path(wad).resolve())
        elif map_name in maps:
            pwad = str(Path(wad).resolve())
    known = wad_maps(pwad or iwad)[1]
    if map_name not in known:
        raise ValueError(f"{_unknown(name, map_name, known)} It plays {pwad or iwad}.")
    return Level(
        name,
        iwad=iwad,
        pwad=pwad,
        map=map_name,
        bots=bots,
        deathmatch=_is_deathmatch(name, pwad or iwad, map_name, bots),
        skill=skill or 3,
        start_tics=1,
        max_tics=MAP_TICS,
        living_reward=0.0,
        death_penalty=0.0,
        is_scenario=False,
        is_shipped=wad is None,
        buttons=None,
    )


def _scenario_level(
    name: str, file: Path, map_name: str | None, bots: int, wad: str | None, skill: int | None
) -> Level:
    settings = _settings(file)
    pwad = str(file.parent / settings["doom_scenario_path"])
    known = wad_maps(pwad)[1]
    map_name = (map_name or settings.get("doom_map", known[0])).upper()
    if map_name not in known:
        raise ValueError(_unknown(name, map_name, known))
    own = wad is not None and wad_maps(wad)[0] == "IWAD" and "MAP01" in wad_maps(wad)[1]
    return Level(
        name,
        iwad=str(Path(wad).resolve()) if own and wad else str(FREEDOOM[2]),  # their textures are DOOM II's
        pwad=pwad,
        map=map_name,
        bots=bots,
        deathmatch=settings.get("mode") == "ASYNC_PLAYER" or _is_deathmatch(name, pwad, map_name, bots),
        skill=skill or int(settings.get("doom_skill", 3)),
        start_tics=int(settings.get("episode_start_time", 1)),
        max_tics=int(settings.get("episode_timeout", MAP_TICS)),
        living_reward=float(settings.get("living_reward", 0)),
        death_penalty=float(settings.get("death_penalty", 0)),
        is_scenario=True,
        is_shipped=not own,
        buttons=_buttons(file),
    )


def _is_deathmatch(level: str, wad: str, map_name: str, bots: int) -> bool:
    """Return how a map is played; the engine would crash on one without the starts that this needs."""
    alone, against = starts(wad, map_name)
    deathmatch = bots > 0 or not alone
    if deathmatch and not against:
        raise ValueError(f"level, got {level!r}, but its map has no starts for a deathmatch; take one without bots.")
    return deathmatch


def _maps_of(wad: str | None) -> list[str]:
    """Return the maps that can be played with this `wad` option."""
    if wad is None or wad_maps(wad)[0] == "PWAD":
        own = wad_maps(wad)[1] if wad else []
        return [*own, *wad_maps(FREEDOOM[1])[1], *wad_maps(FREEDOOM[2])[1]]
    return wad_maps(wad)[1]


def _settings(file: Path) -> dict[str, str]:
    return {key.lower(): value for key, value in _SETTING.findall(_text(file))}


def _buttons(file: Path) -> tuple[str, ...] | None:
    found = _BUTTONS.search(_text(file))
    return tuple(found[1].upper().split()) if found else None


def _text(file: Path) -> str:
    """Return a scenario's configuration without comments."""
    return "\n".join(line.partition("#")[0] for line in file.read_text().splitlines())


def _unknown(level: str, part: str, known: Sequence[str]) -> str:
    inside = "" if level == part else f" in level {level!r}"
    return f"unknown scenario or map {part!r}{inside}; {nearest(part, known)}"
