"""Plays long games by their frames alone, generated and real ones in the same way, and counts what happens in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np

from gamengen import metrics
from gamengen.envs import FramePlayer, Probes
from gamengen.evaluate import held_out
from gamengen.evaluate.held_out import Start
from gamengen.progress import Progress

CRASH_WITHIN = 4  # frames from a contact to the game over
STUCK_AFTER = 60  # frames in game over after the first press of the restart action
NUM_SNAPSHOTS = 10
_MAX_FLICKER = 2  # frames without the panel that do not count as having left a game over


class Games(Protocol):
    """N games side by side; `frames` are the current ones without padding, uint8 [N, H, W, 3], `ages` the frames since
    each start."""

    frames: np.ndarray
    ages: Sequence[int]

    def step(self, actions: Sequence[int]) -> np.ndarray:
        """Play one frame and return it."""


class GeneratedGames:
    """Games of a model, each from a held-out moment on."""

    def __init__(self, engine: Any, starts: Sequence[Start], seeds: Sequence[int]) -> None:
        pasts, actions = held_out.pasts(starts, engine.context_length)
        self._engine, self._state = engine, engine.begin(pasts, actions, seeds)
        self.frames = engine.game.visible(pasts[:, -1])
        self.ages = [start.frame - 1 for start in starts]

    def step(self, actions: Sequence[int]) -> np.ndarray:
        self.frames, self._state = self._engine.step(self._state, actions)
        return self.frames


class RealGames:
    """The real game behind the same interface: an episode's last frame is seen, and stays until the restart action, if
    the game has one, as a model learns it.

    Every game first goes `ages[i]` frames with a careful player, so that it is as far on as the generated one.
    """

    def __init__(self, make: Callable[[], gymnasium.Env], seeds: Sequence[int], ages: Sequence[int], probes: Probes):
        self._envs = [make() for _ in seeds]
        self._spec = self._envs[0].unwrapped.game_spec
        self._restart = self._spec.restart_action and self._spec.action_index(self._spec.restart_action)
        self._over: list[int | None] = [None] * len(seeds)  # frames spent at the end of an episode
        self.ages = list(ages)
        for index, (env, seed) in enumerate(zip(self._envs, seeds, strict=True)):
            env.reset(seed=seed)
            player = probes.player([seed], self._spec, carelessness=0.0)
            for _ in range(ages[index]):
                self._step(index, player.act(self._seen(env)[None])[0])
        self.frames = np.stack([self._seen(env) for env in self._envs])

    def step(self, actions: Sequence[int]) -> np.ndarray:
        for index, action in enumerate(actions):
            self._step(index, action)
        self.frames = np.stack([self._seen(env) for env in self._envs])
        return self.frames

    def close(self) -> None:
        """End the games, some of which are processes of their own."""
        for env in self._envs:
            env.close()

    def _seen(self, env: gymnasium.Env) -> np.ndarray:
        return self._spec.visible(env.render())

    def _step(self, index: int, action: int) -> None:
        waited = self._over[index]
        if waited is None:
            _, _, terminated, truncated, _ = self._envs[index].step(action)
            if terminated:
                self._over[index] = 0
            elif truncated:
                self._envs[index].reset()
        elif self._restart is None or (waited >= self._spec.restart_delay and action == self._restart):
            self._envs[index].reset()
            self._over[index] = None
        else:
            self._over[index] = waited + 1


@dataclass
class Rollouts:
    """What a player saw in N games of T frames.

    Attributes:
        over, entered, contact, pressed: bool [T, N], see `gamengen.envs.FramePlayer`.
        ages: frames behind each game when it began, int [N].
        snapshots: some frames of each game, evenly over it, the last one last: uint8 [NUM_SNAPSHOTS + 1, N, H, W, 3].
        film: all frames of the first game, uint8 [T, H, W, 3], if wanted.
        seconds: the time it took.
    """

    over: np.ndarray
    entered: np.ndarray
    contact: np.ndarray
    pressed: np.ndarray
    ages: np.ndarray
    snapshots: np.ndarray
    film: np.ndarray | None
    seconds: float


def play(games: Games, player: FramePlayer, num_frames: int, *, name: str, keep_film: bool = False) -> Rollouts:
    """Play `num_frames` frames of every game with a player that sees nothing but them."""
    seen: dict[str, list[np.ndarray]] = {"over": [], "entered": [], "contact": [], "pressed": []}
    every = max(1, num_frames // NUM_SNAPSHOTS)
    frames = games.frames
    progress = Progress(f"{name}, rollouts", num_frames * len(frames), "frames")
    snapshots, film = [frames], []
    actions = player.act(frames)
    for number in range(1, num_frames + 1):
        frames = games.step(actions)
        actions = player.act(frames)
        for key, values in seen.items():
            values.append(np.array(getattr(player, key)))
        if number % every == 0 and len(snapshots) <= NUM_SNAPSHOTS:
            snapshots.append(frames)
        if keep_film:
            film.append(frames[0])
        progress.tell(number * len(frames))
    snapshots[-1] = frames
    return Rollouts(
        **{key: np.stack(values) for key, values in seen.items()},
        ages=np.asarray(games.ages),
        snapshots=np.stack(snapshots),
        film=np.stack(film) if keep_film else None,
        seconds=progress.seconds,
    )


def merge(parts: Sequence[Rollouts]) -> Rollouts:
    """Join the games of several `play` calls over the same number of frames."""
    names = ("over", "entered", "contact", "pressed", "snapshots")
    return Rollouts(
        **{name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names},
        ages=np.concatenate([part.ages for part in parts]),
        film=parts[0].film,
        seconds=sum(part.seconds for part in parts),
    )


def counted(rollouts: Rollouts, quiet_frames: int) -> np.ndarray:
    """Return which frames count for the event rate: alive, and not so soon after a start that nothing can come yet."""
    over = _closed(rollouts.over)
    ages = rollouts.ages.copy()
    result = np.zeros_like(over)
    for step, is_over in enumerate(over):
        ages = np.where(is_over, 0, ages + 1)
        result[step] = ~is_over & (ages >= quiet_frames)
    return result


def event_rate(rollouts: Rollouts, quiet_frames: int) -> float | None:
    """Return events per 100 counted frames, None where no frame counts."""
    mask = counted(rollouts, quiet_frames)
    return float(100 * (rollouts.entered & mask).sum() / mask.sum()) if mask.any() else None


def event_rates(rollouts: Rollouts, quiet_frames: int, bins: int) -> list[float | None]:
    """Return the event rate of each part of the rollouts, in time."""
    mask = counted(rollouts, quiet_frames)
    parts = zip(np.array_split(mask, bins), np.array_split(rollouts.entered & mask, bins), strict=True)
    return [float(100 * events.sum() / frames.sum()) if frames.any() else None for frames, events in parts]


def crashes(rollouts: Rollouts) -> np.ndarray:
    """Return for every contact (but the last few frames') whether game over follows in time, bool [contacts]."""
    steps, games = np.nonzero(rollouts.contact[: -CRASH_WITHIN or None])
    return np.array(
        [rollouts.over[s + 1 : s + 1 + CRASH_WITHIN, g].any() for s, g in zip(steps, games, strict=True)], bool
    )


def num_stuck(rollouts: Rollouts) -> int:
    """Count the games that stay in game over for `STUCK_AFTER` frames after the restart action was first taken."""
    over = _closed(rollouts.over)
    stuck = 0
    for game in range(over.shape[1]):
        since: int | None = None  # frames since the first press
        for is_over, pressed in zip(over[:, game], rollouts.pressed[:, game], strict=True):
            if not is_over:
                since = None
            elif since is not None or pressed:
                since = 0 if since is None else since + 1
            if since == STUCK_AFTER:
                stuck += 1
                break
    return stuck


def _closed(over: np.ndarray) -> np.ndarray:
    """Fill gaps of a few frames inside a game over."""
    closed = over.copy()
    for game in range(over.shape[1]):
        shown = np.flatnonzero(over[:, game])
        for before, after in itertools.pairwise(shown):
            if after - before <= _MAX_FLICKER + 1:
                closed[before:after, game] = True
    return closed


def static_psnr(
    frames: np.ndarray, references: np.ndarray, regions: Mapping[str, tuple[slice, slice]]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the PSNR of the regions that stand still, in all [N] and for each region.

    No recorded frame has the same score or the same ground, so each region is compared with the reference frame that is
    nearest in it. The whole is the PSNR of the regions' mean squared errors, each region counting the same: a large
    blank one does not hide a lost one.
    """
    errors = {}
    for name, (rows, columns) in regions.items():
        pool = references[:, rows, columns].astype(np.float64).reshape(len(references), -1)
        parts = frames[:, rows, columns].astype(np.float64).reshape(len(frames), -1)
        # |a - b|^2 = |a|^2 + |b|^2 - 2 ab, exact for 8-bit values: one matrix product in place of a loop over pairs
        squares = (np.square(part).sum(axis=1) for part in (parts, pool))
        distances = np.add.outer(*squares) - 2 * parts @ pool.T
        errors[name] = distances.min(axis=1) / pool.shape[1]
    whole = metrics.psnr_of(np.mean(list(errors.values()), axis=0))
    return whole, {name: metrics.psnr_of(error) for name, error in errors.items()}
