"""What an evaluation asks of this game, answered from frames alone (`scene.py`); see `gamengen.envs.Probes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gamengen.envs.chrome_dino import detect, physics, render
from gamengen.envs.chrome_dino.env import SPEC
from gamengen.envs.chrome_dino.physics import DUCK, JUMP, NONE
from gamengen.envs.chrome_dino.scene import FRONT, Obstacle, Scene, look
from gamengen.game import GameSpec

QUIET_FRAMES = 70  # after a start: 3 s without obstacles, and the way of the first to the picture's edge
FOLLOWED_WITHIN = {"jump": 2, "duck": 3}

_GATE = 416  # the column from which on an obstacle is coming in
_CACTUS_BOTTOM, _MIDDLE_BOTTOM = 116, 92  # world rows: what reaches lower is to be jumped over, ducked under
_CLEAR_AHEAD = 220  # free columns in front of a T-rex with nothing near


def is_over(frames: np.ndarray) -> np.ndarray:
    """Return whether each frame shows the game-over panel, bool [N]."""
    return np.array([scene.over for scene in look(frames)])


def is_free(frames: np.ndarray) -> np.ndarray:
    """Return where the T-rex stands on the ground, alive, with nothing near: bool [N]."""
    return np.array([
        not scene.over
        and scene.top is not None
        and not scene.ducking
        and not scene.airborne
        and all(obstacle.start > FRONT + _CLEAR_AHEAD for obstacle in scene.obstacles)
        for scene in look(frames)
    ])  # fmt: skip


def shows(action: str, frames: np.ndarray) -> np.ndarray:
    """Return whether each frame shows a T-rex that does what the action asks for, bool [N]."""
    scenes = look(frames)
    if action == "jump":
        return np.array([scene.airborne and not scene.over for scene in scenes])
    if action == "duck":
        return np.array([scene.ducking and not scene.over for scene in scenes])
    raise ValueError(f"action, got {action!r}; expected one of {', '.join(FOLLOWED_WITHIN)}.")


def static_regions(height: int, width: int) -> Mapping[str, tuple[slice, slice]]:
    """Return rows and columns of what stands still in a frame of this size."""
    factor = render.HEIGHT // height
    return {
        name: tuple(slice(s.start // factor, max(s.stop // factor, s.start // factor + 1)) for s in box)
        for name, box in detect.STATIC_REGIONS.items()
    }


def player(seeds: Sequence[int], game: GameSpec = SPEC, carelessness: float = 0.2) -> FramePlayer:
    """Return a player for as many games as there are seeds."""
    return FramePlayer(seeds, carelessness)


class FramePlayer:
    """Plays many games by what their frames show: jumps and ducks in time, now and then without need.

    A share `carelessness` of the obstacles that must be jumped over is not reacted to, so that games end. After a game
    over it waits longer than the game's delay and taps the restart key. The attributes hold what the last frames seen
    by `act` showed, bool [N] each.

    Attributes:
        over: the game-over panel.
        entered: an obstacle has come in at the right edge.
        contact: an obstacle that is not reacted to will touch the standing T-rex by the next frame.
        pressed: the restart key goes down in game over.
    """

    def __init__(self, seeds: Sequence[int], carelessness: float = 0.2) -> None:
        self._games = [_Game(np.random.default_rng(seed), carelessness) for seed in seeds]
        self.over = self.entered = self.contact = self.pressed = np.zeros(len(seeds), bool)

    def act(self, frames: np.ndarray) -> list[int]:
        """Look at the games' frames, uint8 [N, H, W, 3], and return the keys to hold."""
        actions = [game.act(scene) for game, scene in zip(self._games, look(frames), strict=True)]
        for name in ("over", "entered", "contact", "pressed"):
            setattr(self, name, np.array([getattr(game, name) for game in self._games]))
        return actions


class _Game:
    """The player's memory of one game."""

    def __init__(self, rng: np.random.Generator, carelessness: float) -> None:
        self._rng, self._carelessness = rng, carelessness
        self.over = self.entered = self.contact = self.pressed = False
        self._gate = [True, True, True]  # whether an obstacle was in the gate, newest last; True: what is there is old
        self._speed = 3 * physics.START_SPEED  # pixels per frame
        self._nearest: int | None = None
        self._careless: bool | None = None  # about the obstacle ahead; None: not decided
        self._touched = False
        self._held, self._frames_left, self._waited = NONE, 0, 0

    def act(self, scene: Scene) -> int:
        self.entered = self._enters(scene)
        self.contact = self.pressed = False
        self.over = scene.over
        if scene.over:
            return self._restart()
        self._waited = 0
        ahead = [obstacle for obstacle in scene.obstacles if obstacle.end > FRONT]
        self._follow(ahead[0] if ahead else None)
        needed = self._needed(scene, ahead)
        if self._frames_left > 0:
            self._frames_left -= 1
            if self._held == JUMP or needed in (NONE, self._held):
                return self._held
        if needed == JUMP and (self._held == JUMP or scene.airborne or scene.ducking):
            needed = NONE  # a key must come up before it can go down again; no jump starts from a duck
        self._hold(needed, {JUMP: 4, DUCK: 2, NONE: 1}[needed])
        return needed

    def _hold(self, action: int, frames: int) -> None:
        self._held, self._frames_left = action, frames - 1

    def _enters(self, scene: Scene) -> bool:
        """An obstacle is in the gate twice running, after two frames in which none was."""
        inside = any(obstacle.end > _GATE for obstacle in scene.obstacles)
        entered = inside and self._gate == [False, False, True]
        self._gate = [*self._gate[1:], inside]
        return entered

    def _follow(self, nearest: Obstacle | None) -> None:
        """Measure the speed on the nearest obstacle; a new one is a new decision."""
        start = None if nearest is None else nearest.start
        if start is not None and self._nearest is not None and -8 <= self._nearest - start <= 50:
            if self._nearest - start > 8:
                self._speed += 0.3 * (self._nearest - start - self._speed)
        else:
            self._careless, self._touched = None, False
        self._nearest = start

    def _needed(self, scene: Scene, ahead: Sequence[Obstacle]) -> int:
        for obstacle in ahead:
            updates = 3 / self._speed
            start, end = (obstacle.start - FRONT) * updates, (obstacle.end - physics.TREX_X) * updates
            if obstacle.bottom >= _CACTUS_BOTTOM and obstacle is ahead[0] and start < 45:
                if self._careless is None:
                    self._careless = bool(self._rng.random() < self._carelessness)
                if self._careless:
                    self._meet(scene, obstacle)
                    return NONE
            if obstacle.bottom >= _CACTUS_BOTTOM:
                return JUMP if (start + end) / 2 < 19 and not scene.airborne else self._play(scene, start)
            if obstacle.bottom >= _MIDDLE_BOTTOM:
                return DUCK if start < 9 and end > 0 else self._play(scene, start)
        return self._play(scene, 100.0)

    def _meet(self, scene: Scene, obstacle: Obstacle) -> None:
        standing = scene.top is not None and not scene.airborne and not scene.ducking
        if standing and not self._touched and obstacle.start - FRONT <= self._speed:
            self.contact = self._touched = True

    def _play(self, scene: Scene, free: float) -> int:
        """A needless move on free ground; `free` is the time until something comes, in updates of 1/60 s."""
        if scene.airborne or self._rng.random() >= 0.02:
            return NONE
        if self._rng.random() < 0.5:
            return JUMP if free > 65 else NONE
        return DUCK if free > 45 else NONE

    def _restart(self) -> int:
        """Wait, then tap the key until the panel goes."""
        self._nearest, self._careless, self._touched = None, None, False
        self._gate, self._speed = [True, True, True], 3 * physics.START_SPEED
        if self._waited == 0:
            self._patience = SPEC.restart_delay + int(self._rng.integers(3, 12))
        self._waited += 1
        self.pressed = self._waited > self._patience and self._held != JUMP
        self._hold(JUMP if self.pressed else NONE, 1)
        return self._held
