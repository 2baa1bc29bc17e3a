"""Obstacles, the boxes in which they hit, and the generator that draws them; knows nothing of the T-rex or of time."""

from __future__ import annotations

import math
from dataclasses import dataclass

WORLD_WIDTH = 600
DT = 1000 / 60  # milliseconds per update: the browser's frame at 60 Hz

Box = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True)
class ObstacleType:
    """What all obstacles of a kind share."""

    name: str
    width: int
    height: int
    ys: tuple[int, ...]
    multiple_speed: float  # groups of 2 and 3 from this speed on
    min_gap: int
    min_speed: float
    boxes: tuple[Box, ...]
    num_frames: int = 1
    speed_offset: float = 0.0


SMALL_CACTUS = ObstacleType(
    "cactusSmall", 17, 35, (105,), 4, 120, 0, ((0, 7, 5, 27), (4, 0, 6, 34), (10, 4, 7, 14))
)  # fmt: skip
LARGE_CACTUS = ObstacleType(
    "cactusLarge", 25, 50, (90,), 7, 120, 0, ((0, 12, 7, 38), (8, 0, 7, 49), (13, 10, 10, 38))
)  # fmt: skip
PTERODACTYL = ObstacleType(
    "pterodactyl", 46, 40, (100, 75, 50), 999, 150, 8.5,
    ((15, 15, 16, 5), (18, 21, 24, 6), (2, 14, 4, 3), (6, 10, 4, 7), (10, 8, 6, 9)), num_frames=2, speed_offset=0.8,
)  # fmt: skip
OBSTACLE_TYPES = (SMALL_CACTUS, LARGE_CACTUS, PTERODACTYL)
WING_MS = 1000 / 6


class Mulberry32:
    """Draws the numbers that Math.random gives once the browser's generator is replaced by mulberry32(seed)."""

    __slots__ = ("draws", "state")

    def __init__(self, seed: int) -> None:
        self.state = seed & 0xFFFFFFFF
        self.draws = 0

    def random(self) -> float:
        """Return the next number in [0, 1)."""
        self.draws += 1
        self.state = a = (self.state + 0x6D2B79F5) & 0xFFFFFFFF
        t = ((a ^ (a >> 15)) * (a | 1)) & 0xFFFFFFFF
        t ^= (t + (t ^ (t >> 7)) * (t | 61)) & 0xFFFFFFFF
        return (t ^ (t >> 14)) / 4294967296

    def integer(self, low: int, high: int) -> int:
        """Return an integer in [low, high]: Chromium's getRandomNum."""
        return math.floor(self.random() * (high - low + 1)) + low

    def skip(self, count: int) -> None:
        """Leave out `count` draws; the state is a counter, so that costs nothing."""
        self.draws += count
        self.state = (self.state + count * 0x6D2B79F5) & 0xFFFFFFFF


class Obstacle:
    """A group of 1 to 3 cacti, or a pterodactyl."""

    __slots__ = ("boxes", "followed", "frame", "gap", "kind", "size", "speed_offset", "timer", "width", "x", "y")

    def __init__(self, kind: ObstacleType, speed: float, rng: Mulberry32) -> None:
        size = rng.integer(1, 3)  # drawn even where it is then forced to 1
        self.kind = kind
        self.size = size = 1 if size > 1 and kind.multiple_speed > speed else size
        self.x = WORLD_WIDTH + kind.width
        self.width = width = kind.width * size
        self.y = kind.ys[rng.integer(0, len(kind.ys) - 1)] if len(kind.ys) > 1 else kind.ys[0]
        self.boxes = group_boxes(kind, size)
        self.speed_offset = 0.0
        if kind.speed_offset:
            self.speed_offset = kind.speed_offset if rng.random() > 0.5 else -kind.speed_offset
        min_gap = js_round(width * speed + kind.min_gap * 0.6)
        self.gap = rng.integer(min_gap, js_round(min_gap * 1.5))
        self.followed = False
        self.frame = 0
        self.timer = 0.0

    def update(self, speed: float) -> None:
        """Move by one update of the world's speed, and flap."""
        kind = self.kind
        if kind.speed_offset:
            speed += self.speed_offset
        self.x -= math.floor((speed * 60 / 1000) * DT)
        if kind.num_frames > 1:
            self.timer += DT
            if self.timer >= WING_MS:
                self.frame = (self.frame + 1) % kind.num_frames
                self.timer = 0.0


def group_boxes(kind: ObstacleType, size: int) -> tuple[Box, ...]:
    """Return the parts of a group: the middle box stretches over it, the last one stays at its right end."""
    if size == 1:
        return kind.boxes
    first, middle, last = kind.boxes
    width = kind.width * size
    stretched = (middle[0], middle[1], width - first[2] - last[2], middle[3])
    return first, stretched, (width - last[2], last[1], last[2], last[3])


def js_round(value: float) -> int:
    """Round as JavaScript does: halves go up (Python's go to the even number)."""
    return math.floor(value + 0.5)


def overlap(x1: int, y1: int, a: Box, x2: int, y2: int, b: Box) -> bool:
    """Return whether two boxes, each moved by an origin, overlap."""
    left, top, other_left, other_top = x1 + a[0], y1 + a[1], x2 + b[0], y2 + b[1]
    return (
        left < other_left + b[2]
        and left + a[2] > other_left
        and top < other_top + b[3]
        and top + a[3] > other_top
    )  # fmt: skip
