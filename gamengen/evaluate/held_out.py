"""Held-out play: the episodes that no training has seen, and the moments in them from which a model goes on."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gamengen.data import shards
from gamengen.data.lazy import FrameCache
from gamengen.data.shards import Episode
from gamengen.data.window import action_changes, pad_context
from gamengen.game import GameSpec

SPLIT = "test"
MAX_BYTES = 1 << 30  # of encoded frames, and of decoded ones; of more held-out play, a part is taken


@dataclass(frozen=True)
class Start:
    """A moment: frames 0 ... frame-1 of the episode have been, frame `frame` comes next (1 <= frame < length)."""

    episode: Episode
    frame: int

    @property
    def seed(self) -> int:
        """The moment's own seed, so that its figures do not depend on which worker measures it."""
        return zlib.crc32(f"{self.episode.id}/{self.frame}".encode())

    @property
    def last(self) -> np.ndarray:
        """The frame before the moment, uint8 [H, W, 3]."""
        return self.episode.frames[self.frame - 1]

    def future(self, count: int) -> np.ndarray:
        """Return the recorded frames that follow, uint8 [<= count, H, W, 3]."""
        return self.episode.frames[self.frame : self.frame + count]

    def actions(self, count: int) -> np.ndarray:
        """Return the recorded actions that lead to them, padded with the last one where the episode ends."""
        taken = self.episode.actions[self.frame - 1 : self.frame - 1 + count]
        return np.pad(taken, (0, count - len(taken)), mode="edge").astype(np.int64)


def load(folder: str, game: GameSpec, seed: int) -> list[Episode]:
    """Read the held-out episodes of `gameplay/`, in an order drawn by the seed; raises ValueError if there are none."""
    names = shards.find(folder, game)
    order = np.random.default_rng(seed).permutation(len(names))
    episodes: list[Episode] = []
    size = 0
    for episode in shards.episodes([names[index] for index in order], SPLIT, FrameCache(MAX_BYTES)):
        if len(episode) < 2:
            continue
        size += episode.frames.nbytes
        if episodes and size > MAX_BYTES:
            break
        episodes.append(episode)
    if not episodes:
        raise ValueError(
            f"{folder} holds no episode of the split {SPLIT!r}, got {len(names)} shards of other play; expected at "
            "least one held-out episode. Record more, or raise collect.split_test."
        )
    return episodes


def draw(
    episodes: Sequence[Episode], count: int, seed: int, *, after: int = 1, before_end: int = 1, first: int | None = None
) -> list[Start]:
    """Draw up to `count` different moments, spread over all episodes.

    Moments have `after` frames behind them (at most `first`) and `before_end` ahead. Where no episode is that long, the
    bounds are given up.
    """
    places = [
        (number, frame)
        for number, episode in enumerate(episodes)
        for frame in range(after, min(len(episode) - before_end, first or len(episode)) + 1)
        if frame < len(episode)
    ]
    if not places:
        assert after > 1 or before_end > 1 or first is not None
        return draw(episodes, count, seed)
    picked = np.random.default_rng(seed).permutation(len(places))[:count]
    return [Start(episodes[places[index][0]], places[index][1]) for index in picked]


def draw_free(
    episodes: Sequence[Episode],
    count: int,
    seed: int,
    is_free: Callable[[np.ndarray], np.ndarray],
    *,
    num_idle: int = 8,
    next_action: int | None = None,
) -> list[Start]:
    """Draw moments that the game's probe calls free, before which no key was held for `num_idle` frames.

    With `next_action`, only those at which the recorded player then took that action.
    """
    places = []
    for number, episode in enumerate(episodes):
        for frame in range(num_idle + 1, len(episode)):
            taken = episode.actions[frame - 1]
            if not episode.actions[frame - 1 - num_idle : frame - 1].any() and next_action in (None, taken):
                places.append((number, frame))
    starts: list[Start] = []
    for index in np.random.default_rng(seed).permutation(len(places)):
        start = Start(episodes[places[index][0]], places[index][1])
        if is_free(start.episode.frames[start.frame - 1 : start.frame])[0]:
            starts.append(start)
        if len(starts) == count:
            break
    return starts


def draw_changes(episodes: Sequence[Episode], count: int, seed: int, *, after: int) -> list[Start]:
    """Draw up to `count` moments a frame after the player has changed the action and holds the new one, as evenly over
    the new actions as there are: some games show an action only then. Moments have `after` frames behind them.
    """
    by_action: dict[int, list[Start]] = {}
    for episode in episodes:
        for frame in action_changes(episode) + 1:
            if after <= frame < len(episode) and episode.actions[frame - 1] == episode.actions[frame - 2]:
                by_action.setdefault(int(episode.actions[frame - 1]), []).append(Start(episode, int(frame)))
    rng = np.random.default_rng(seed)
    queues = [[starts[index] for index in rng.permutation(len(starts))] for _, starts in sorted(by_action.items())]
    rounds = itertools.zip_longest(*queues)
    return list(itertools.islice((start for turn in rounds for start in turn if start is not None), count))


def pasts(starts: Sequence[Start], context_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what lies behind: frames uint8 [N, L, H, W, 3] and the actions between them, int64 [N, L-1]."""
    frames, actions = [], []
    for start in starts:
        first = max(0, start.frame - context_length)
        padded = pad_context(
            start.episode.frames[first : start.frame], start.episode.actions[first : start.frame], context_length
        )
        frames.append(padded[0])
        actions.append(padded[1][:-1])
    return np.stack(frames), np.stack(actions)
