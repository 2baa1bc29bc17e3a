"""Holds an agent's action for several frames, while every frame is recorded; knows no game and no learning."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


def frames_per_decision(env: gymnasium.Env) -> int:
    """Return for how many frames an action is held: a game may say so (`frames_per_action`), one frame else."""
    return int(getattr(env.unwrapped, "frames_per_action", 1))


def hold(env: gymnasium.Env, repeat_probability: float = 0.0, seed: int = 0) -> gymnasium.Env:
    """Return the env with decisions instead of frames as its steps; the env itself where that is the same."""
    num_frames = frames_per_decision(env)
    if num_frames == 1 and repeat_probability == 0:
        return env
    return HeldActions(env, num_frames, repeat_probability, seed)


class HeldActions(gymnasium.Wrapper):
    """Makes one step of several frames: around a `RecordingEnv`, decisions are few and recorded frames are all.

    Rewards are summed, and so are the `reward_terms` in `info`; `info["action"]` is what was really held.

    Args:
        num_frames: frames per decision; for DOOM the env's `frames_per_action`.
        repeat_probability: chance that the last action is held once more in place of the new one. GameNGen raises it
            to see longer movements, but does not say by how much; 0 leaves the agent in control.
        seed: of those chances, until `reset` gets one.
    """

    def __init__(self, env: gymnasium.Env, num_frames: int, repeat_probability: float = 0.0, seed: int = 0) -> None:
        super().__init__(env)
        if num_frames < 1:
            raise ValueError(f"num_frames, got {num_frames!r}; expected a whole number of at least 1.")
        if not 0 <= repeat_probability < 1:
            raise ValueError(f"repeat_probability, got {repeat_probability!r}; expected 0 or more and less than 1.")
        self._num_frames, self._repeat_probability = num_frames, repeat_probability
        self._rng = np.random.default_rng(seed)
        self._last: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._rng = np.random.default_rng([seed, 1])  # not the stream of the game
        self._last = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._last is not None and self._rng.random() < self._repeat_probability:
            action = self._last
        self._last = action
        total = 0.0
        terms: dict[str, float] = {}
        for _ in range(self._num_frames):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            for name, value in info.get("reward_terms", {}).items():
                terms[name] = terms.get(name, 0.0) + value
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, {**info, "reward_terms": terms, "action": action}
