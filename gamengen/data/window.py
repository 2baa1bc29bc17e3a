"""Windows: what a model learns from. Cut out of an episode, padded at its beginning, or across a restart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gamengen.data.shards import Episode
from gamengen.game import GameSpec


@dataclass(frozen=True)
class Window:
    """Context frames n-L ... n-1, actions n-L ... n-1 and the target frame n.

    Attributes:
        context: [L, ...], frames or latents, oldest first.
        actions: int64 [L]; the last one was taken after the last context frame and led to the target.
        target: [...], the next frame.
        follows: whether it is the window one frame after the one drawn before it.
    """

    context: np.ndarray
    actions: np.ndarray
    target: np.ndarray
    follows: bool = False


@dataclass(frozen=True)
class WindowRules:
    """How windows are drawn.

    Attributes:
        context_length: L.
        restart_joins: share of the windows that run from a game over into the next episode (GameNGen, section A.10).
        event_fraction: share of the windows whose target follows a change of action (one half) or ends an episode (the
            other half), on top of what chance gives: these frames carry the controls and the crashes, and are few.
    """

    context_length: int
    restart_joins: float = 0.0
    event_fraction: float = 0.0


def pad_context(frames: np.ndarray, actions: np.ndarray, context_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Bring a short past to length L: the first frame is repeated, the game's first action (no key) before it.

    Args:
        frames: [T, ...], oldest first, T >= 1. actions: [T]. The last L of each are kept.
    """
    frames, actions = frames[-context_length:], np.asarray(actions, dtype=np.int64)[-context_length:]
    missing = context_length - len(frames)
    if missing == 0:
        return frames, actions
    return np.concatenate([np.repeat(frames[:1], missing, axis=0), frames]), np.pad(actions, (missing, 0))


def window_at(episode: Episode, target: int, context_length: int) -> Window:
    """Cut the window whose target is frame `target`, 1 ... len(episode) - 1, out of one episode."""
    assert 1 <= target < len(episode)
    start = max(0, target - context_length)
    context, actions = pad_context(episode.frames[start:target], episode.actions[start:target], context_length)
    return Window(context, actions, episode.frames[target])


def action_changes(episode: Episode) -> np.ndarray:
    """Return the targets that follow a change of action."""
    return np.flatnonzero(np.diff(episode.actions)) + 2  # actions[n-1] != actions[n-2] -> target n


def endings(episode: Episode) -> np.ndarray:
    """Return the last two targets of an episode that ended by itself: the moment before the end and the end."""
    return np.arange(max(1, len(episode) - 2), len(episode)) if episode.terminated else np.zeros(0, dtype=np.int64)


def restart_window(
    before: Episode, after: Episode, game: GameSpec, context_length: int, rng: np.random.Generator
) -> Window:
    """Draw a window out of a game over, the wait in it, and the next episode.

    The game-over frame stays for at least `game.restart_delay` frames (as far as the context can tell) and until the
    restart action is taken; then the next episode's first frame follows. A game without a restart action goes on
    at once.
    """
    if game.restart_action is None:
        held, waiting = 0, np.zeros(0, dtype=np.int64)
        restart = 0
    else:
        restart = game.action_index(game.restart_action)
        shortest = min(game.restart_delay, context_length - 1)
        held = shortest + int(rng.geometric(0.3)) - 1
        waiting = rng.integers(0, game.num_actions, held)
        waiting[shortest:] = np.where(waiting[shortest:] == restart, 0, waiting[shortest:])
    tail = min(len(before), context_length)
    after_shown = min(len(after) - 1, context_length)
    frames = np.concatenate(
        [before.frames[-tail:], np.repeat(before.frames[-1:], held, axis=0), after.frames[: after_shown + 1]]
    )
    actions = np.concatenate([before.actions[len(before) - tail :], waiting, [restart], after.actions[:after_shown]])
    target = int(rng.integers(tail, tail + held + after_shown + 1))
    context, played = pad_context(frames[:target], actions[:target], context_length)
    return Window(context, played, frames[target])


def draw_windows(
    episodes: Sequence[Episode], rules: WindowRules, game: GameSpec, rng: np.random.Generator
) -> Iterator[Window]:
    """Yield as many windows as the episodes have targets: each target once in random order, some places taken by
    restart joins and by events."""
    places = _places(episodes, lambda episode: np.arange(1, len(episode)))
    special = [kind for kind in (_places(episodes, action_changes), _places(episodes, endings)) if len(kind)]
    ended = [e for e in episodes if e.terminated]
    for index in rng.permutation(len(places)):
        kind = rng.random()
        if kind < rules.restart_joins and ended:
            before, after = ended[rng.integers(len(ended))], episodes[rng.integers(len(episodes))]
            yield restart_window(before, after, game, rules.context_length, rng)
            continue
        if kind > 1 - rules.event_fraction and special:
            events = special[rng.integers(len(special))]
            episode, target = events[rng.integers(len(events))]
        else:
            episode, target = places[index]
        yield window_at(episodes[episode], int(target), rules.context_length)


def draw_chains(
    episodes: Sequence[Episode], context_length: int, longest: int, rng: np.random.Generator
) -> Iterator[Window]:
    """Yield as many windows as the episodes have targets, each target once, as chains of up to `longest` that follow an
    episode frame by frame, in random order; those that begin an episode are of any length."""
    chains = [
        (episode, targets)
        for episode in episodes
        for targets in np.split(
            np.arange(1, len(episode)), np.arange(rng.integers(1, longest + 1), len(episode) - 1, longest)
        )
    ]
    for index in rng.permutation(len(chains)):
        episode, targets = chains[index]
        for target in targets.tolist():
            window = window_at(episode, target, context_length)
            yield dataclasses.replace(window, follows=target != targets[0])


def _places(episodes: Sequence[Episode], targets: Callable[[Episode], np.ndarray]) -> np.ndarray:
    """Return the pairs (index of the episode, target) as int [N, 2]."""
    return np.concatenate(
        [np.stack([np.full(len(v), i), v], axis=1) for i, e in enumerate(episodes) for v in [targets(e)]]
    )
