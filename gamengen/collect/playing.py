"""Plays the game with a policy that does not learn: to record it, or to see how well it does. Knows nothing of Ray."""

from __future__ import annotations

import logging
from typing import Any

import gymnasium
import numpy as np
import pyarrow as pa

from gamengen.collect.holding import frames_per_decision, hold
from gamengen.collect.policies import Policy
from gamengen.collect.recording import EpisodeRecorder, Origin, viewer
from gamengen.config import CollectConfig
from gamengen.envs import GameDied

logger = logging.getLogger(__name__)

PREFIX = "collect"  # of the episodes that stand-alone collection records, and of their shards
_MAX_DEATHS = 5  # of a game's process in one item; more are no accident


class RecordedEpisode(gymnasium.Wrapper):
    """Gives every frame of one episode to its recorder, and ends (truncates) it after `max_frames`."""

    def __init__(self, env: gymnasium.Env, recorder: EpisodeRecorder, max_frames: int) -> None:
        super().__init__(env)
        self._show, self._recorder, self._max_frames = viewer(env), recorder, max_frames

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._recorder.frame(self._show(), info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._recorder.step(action, float(reward))
        self._recorder.frame(self._show(), info)
        truncated = not terminated and (truncated or self._recorder.num_frames >= self._max_frames)
        return observation, float(reward), terminated, truncated, info


def play_item(env: gymnasium.Env, policy: Policy, settings: CollectConfig, origin: Origin, seed: int) -> pa.Table:
    """Play whole episodes, the last one cut, until an item's frames are full; the same seed gives the same play.

    An item has `max_episode_frames` frames, and at most a chunk more, so that no episode is cut shorter than a chunk.
    An episode in which the game's process dies is played again from its start.

    Raises:
        GameDied: the process died again and again.
    """
    episodes: list[pa.Table] = []
    left = settings.max_episode_frames
    deaths = 0
    while left > 0:
        rng = np.random.default_rng([seed, len(episodes)])
        episode = f"{origin.run}-{PREFIX}-{seed:09d}-{len(episodes):04d}"
        recorder = EpisodeRecorder(env.unwrapped.game_spec, settings, origin, episode, seed)  # type: ignore[attr-defined]
        recorded = RecordedEpisode(env, recorder, max(left, settings.chunk_frames))
        try:
            ended = _play_episode(hold(recorded, settings.repeat_probability), policy, rng)
        except GameDied as error:
            deaths += 1
            if deaths == _MAX_DEATHS:
                raise
            logger.warning("episode %s is played again: %s", episode, error)
            continue
        episodes.append(recorder.finish(*ended))
        left -= recorder.num_frames
    return pa.concat_tables(episodes)


def _play_episode(env: gymnasium.Env, policy: Policy, rng: np.random.Generator) -> tuple[bool, bool]:
    """Play an episode; returns whether it was terminated, and whether truncated."""
    observation, info = env.reset(seed=int(rng.integers(2**31)))
    policy.reset(rng)
    terminated = truncated = False
    while not (terminated or truncated):
        observation, _, terminated, truncated, info = env.step(policy.action(observation, info))
    return terminated, truncated


def scores(env: gymnasium.Env, policy: Policy, num_episodes: int, max_frames: int, seed: int) -> np.ndarray:
    """Return what a policy earns in each of some episodes; the same seed gives the same games to everyone."""
    held, frames_each = hold(env), frames_per_decision(env)
    earned = np.zeros(num_episodes)
    for episode in range(num_episodes):
        observation, info = held.reset(seed=1_000_000 + episode)
        policy.reset(np.random.default_rng([seed, episode]))
        frames, ended = 1, False
        while not ended and frames < max_frames:
            observation, reward, terminated, truncated, info = held.step(policy.action(observation, info))
            frames += frames_each
            earned[episode] += float(reward)
            ended = terminated or truncated
    return earned
