"""CPU per frame of the game `doom`, process and engine together: raw ViZDoom against the env with `render`.

`python -m tests.envs.measure_doom [level]`. Both play the same actions from the same seed in turns of 100 frames, so
that what else the machine does hits both.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from gamengen import envs
from gamengen.envs.doom import actions, scenarios
from gamengen.envs.doom.engine import Engine

NUM_FRAMES, TURN, TICS = 3000, 100, 2


def _engine_seconds(engine: Engine) -> float:
    """Return the CPU time of the engine's process, of all its threads."""
    tasks = Path(f"/proc/{engine.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class _Raw:
    """ViZDoom's loop as its examples have it, with the engine's settings of the env."""

    def __init__(self, level: scenarios.Level, observation: str) -> None:
        self.engine = Engine([], automap=observation == "pixels")
        self._level = level
        self.engine.start(level, 1)
        self.frame(0)

    def frame(self, action: int) -> None:
        game = self.engine.running()
        game.make_action(actions.PRESSED[action], TICS)
        state = game.get_state()
        if state is None:
            self.engine.start(self._level, 1)
            return
        assert state.screen_buffer.shape == (240, 320, 3)
        assert (state.automap_buffer is None) == (not self.engine._automap)


class _Env:
    def __init__(self, level: scenarios.Level, observation: str) -> None:
        self._env = envs.make("doom", levels=level.name, observation=observation, max_frames=10**9)
        self._env.reset(seed=0)
        self.engine = self._env.unwrapped._engine
        self.engine.start(level, 1)  # the same game as raw
        self.frame(0)

    def frame(self, action: int) -> None:
        *_, terminated, _, _ = self._env.step(action)
        self._env.render()
        if terminated:
            self._env.reset()
            self.engine.start(self._env.unwrapped._level, 1)


def measure(level: str, observation: str) -> tuple[float, float]:
    """Return seconds of CPU per frame, raw and env."""
    players = [kind(scenarios.resolve(level), observation) for kind in (_Raw, _Env)]
    played = np.repeat(np.random.default_rng(0).integers(0, actions.NAMES.index("use"), NUM_FRAMES // 4), 4)
    seconds = [0.0, 0.0]
    for start in range(0, NUM_FRAMES, TURN):
        for index, player in enumerate(players):
            before = time.process_time() + _engine_seconds(player.engine)
            for action in played[start : start + TURN]:
                player.frame(int(action))
            seconds[index] += time.process_time() + _engine_seconds(player.engine) - before
    for player in players:
        player.engine.close()
    return seconds[0] / NUM_FRAMES, seconds[1] / NUM_FRAMES


def main() -> None:
    level = sys.argv[1] if len(sys.argv) > 1 else "MAP01"
    for observation in ("none", "pixels"):
        raw, env = measure(level, observation)
        rates = f"raw {1 / raw:.0f} frames/s per core, env {1 / env:.0f}, share {raw / env:.2f}"
        print(f"{level} observation={observation}: {rates}")


if __name__ == "__main__":
    main()
