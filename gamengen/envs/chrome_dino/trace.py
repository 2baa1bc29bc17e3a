"""The whole state of a game as numbers, and traces of games in a file: how Python is compared with the browser."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gamengen.envs.chrome_dino.obstacles import OBSTACLE_TYPES
from gamengen.envs.chrome_dino.physics import Game

# The fixed part of a row; then for every obstacle type, size, x, y, gap, frame; for every cloud x, y, gap; at night for
# both stars x, y. `browser.py` makes the same row in JavaScript.
COLUMNS = (
    "y", "velocity", "speed", "distance", "status", "next_frame", "timer", "jumping", "ducking", "hit", "draws",
    "night", "night_timer", "night_opacity", "moon_x", "moon_phase", "ground_x0", "ground_x1", "bumpy0", "bumpy1",
    "digits", "flashing", "flash_timer", "num_flashes", "num_obstacles", "num_clouds",
)  # fmt: skip
CHECK_EVERY = 20


def snapshot(game: Game) -> list[float]:
    """Return every number of a game's state as one row, exactly."""
    row = [
        game.y, game.velocity, game.speed, game.distance, game.status, game.next_frame, game.timer, game.jumping,
        game.ducking, game.hit, game.rng.draws, game.night, game.night_timer, game.night_opacity, game.moon_x,
        game.moon_phase, *game.ground_x, *game.ground_bumpy, int(game.digits), game.flashing, game.flash_timer,
        game.num_flashes, len(game.obstacles), len(game.clouds),
    ]  # fmt: skip
    for o in game.obstacles:
        row += [OBSTACLE_TYPES.index(o.kind), o.size, o.x, o.y, o.gap, o.frame]
    for cloud in game.clouds:
        row += cloud
    if game.night_opacity > 0:
        row += game.stars[0] + game.stars[1]
    return row


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[str]:
    """Name what differs between two rows, "name ours theirs" each; tolerance 0."""
    names = [*COLUMNS, *(f"item {index}" for index in range(max(len(ours), len(theirs)) - len(COLUMNS)))]
    found = [f"{name} {a!r} {b!r}" for name, a, b in zip(names, ours, theirs, strict=False) if a != b]
    return found + ([f"length {len(ours)} {len(theirs)}"] if len(ours) != len(theirs) else [])


@dataclass
class Trace:
    """One recorded game, small: some columns for every update, and a checksum over all of them.

    Attributes:
        seed: of mulberry32.
        immortal: whether the game went on after a hit.
        actions: the key held during each update, as digits.
        ys: y after each update.
        hits: the updates at which the T-rex touched an obstacle.
        draws: random numbers drawn, after every 20th update.
        checks: CRC-32 over all rows (doubles) so far, after every 20th update and after the last.
    """

    seed: int
    immortal: bool
    actions: str
    ys: list[int]
    hits: list[int]
    draws: list[int]
    checks: list[int]


def summarise(seed: int, immortal: bool, actions: Iterable[int], rows: Sequence[Sequence[float]]) -> Trace:
    """Make the trace of a game from its rows, wherever they come from."""
    names = {name: index for index, name in enumerate(COLUMNS)}
    check, checks = 0, []
    for index, row in enumerate(rows):
        check = zlib.crc32(struct.pack(f"<{len(row)}d", *row), check)
        if index % CHECK_EVERY == CHECK_EVERY - 1 or index == len(rows) - 1:
            checks.append(check)
    return Trace(
        seed=seed,
        immortal=immortal,
        actions="".join(str(action) for action in actions),
        ys=[int(row[names["y"]]) for row in rows],
        hits=[index for index, row in enumerate(rows) if row[names["hit"]]],
        draws=[int(row[names["draws"]]) for row in rows[CHECK_EVERY - 1 :: CHECK_EVERY]],
        checks=checks,
    )


def replay(trace: Trace) -> Trace:
    """Play a trace's seed and actions with our rules and return the trace that comes out."""
    game = Game(trace.seed, trace.immortal)
    rows = []
    for action in trace.actions:
        game.hold(int(action))
        game.update()
        rows.append(snapshot(game))
        if game.crashed:
            break
    return summarise(trace.seed, trace.immortal, trace.actions[: len(rows)], rows)


def save(path: Path, chromium: str, traces: Sequence[Trace]) -> None:
    """Write traces and the version of the browser that they come from, gzipped JSON."""
    text = json.dumps({"chromium": chromium, "traces": [asdict(trace) for trace in traces]}, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def load(path: Path) -> list[Trace]:
    """Read what `save` wrote."""
    return [Trace(**fields) for fields in json.loads(gzip.decompress(path.read_bytes()))["traces"]]
