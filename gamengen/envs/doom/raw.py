"""ViZDoom's own loop, with no env around it: what a recording of the game can at best be as fast as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from gamengen.envs.doom import actions as buttons
from gamengen.envs.doom import scenarios
from gamengen.envs.doom.engine import Engine


def play_raw(
    plays: Iterable[tuple[int, Sequence[int]]],
    levels: str | Sequence[str] | Mapping[str, float] = "MAP01",
    wad: str | None = None,
    skill: int | None = None,
    frame_tics: int = 2,
    actions: str = "all",
    supersampling: int = 1,
    **_: Any,
) -> Iterator[np.ndarray]:
    """Yield the screen after every action, uint8 [240, 320, 3], of episodes as the env would play them.

    With `supersampling` it is so many times as high and as wide, as the engine renders it.

    The options are those of `DoomEnv`; what the engine by itself has no use for changes nothing.

    Args:
        plays: the seed of each episode, and the actions for its frames.
    """
    shares = scenarios.weighted(levels)
    resolved = {name: scenarios.resolve(name, wad, skill) for name in shares}
    names = buttons.NAMES if actions == "all" else scenarios.meant_actions(resolved.values())
    pressed = [buttons.buttons(name) for name in names]
    engine = Engine([], supersampling=supersampling)
    try:
        for seed, played in plays:
            rng, _ = seeding.np_random(seed)  # draws as `DoomEnv.reset` does: the same frames cost the same
            level = resolved[str(rng.choice(list(shares), p=list(shares.values())))]
            engine.start(level, int(rng.integers(2**31)))
            game = engine.running()
            for action in played:
                game.make_action(pressed[action], frame_tics)
                state = game.get_state()
                if state is None:
                    break
                yield state.screen_buffer
    finally:
        engine.close()
