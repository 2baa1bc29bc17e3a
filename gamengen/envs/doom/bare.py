"""ViZDoom's own loop, with no env around it: what a recording of the game can at best be as fast as."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gamengen.envs.doom import actions, scenarios
from gamengen.envs.doom.engine import Engine

_LONGEST_HOLD = 12  # frames for which a random key is held; as random players of recordings do


def bare(
    levels: str | Sequence[str] | Mapping[str, float] = "MAP01",
    wad: str | None = None,
    skill: int | None = None,
    frame_tics: int = 2,
    max_frames: int | None = None,
    **_: Any,
) -> Iterator[int]:
    """Hold random actions for ever and take the screen of every frame; yields 1 for each.

    The options are those of `DoomEnv`; what the engine by itself has no use for changes nothing.
    """
    rng, engine, shares = np.random.default_rng(0), Engine([]), scenarios.weighted(levels)
    played = {name: scenarios.resolve(name, wad, skill) for name in shares}
    try:
        for seed in itertools.count():
            level = played[str(rng.choice(list(shares), p=list(shares.values())))]
            engine.start(level, seed)
            game, left = engine.running(), max_frames or level.max_tics // frame_tics
            while left > 0:
                pressed = actions.PRESSED[int(rng.integers(len(actions.PRESSED)))]
                for _ in range(min(int(rng.integers(1, _LONGEST_HOLD + 1)), left)):
                    game.make_action(pressed, frame_tics)
                    state = game.get_state()
                    if state is None:
                        left = 0
                        break
                    assert state.screen_buffer is not None
                    left -= 1
                    yield 1
    finally:
        engine.close()
