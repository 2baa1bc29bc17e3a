"""Records what an env shows and what is done in it, as rows of the Parquet schema; knows nothing of Ray or of policies.

Frames are encoded while they are played and never leave this process but as rows: they pass through no observation.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import pyarrow as pa

from gamengen.config import CollectConfig
from gamengen.data import chunk as chunks
from gamengen.data import codec as codecs
from gamengen.game import GameSpec

_NOTHING: Mapping[str, Any] = {}
Sink = Callable[[str, pa.Table], None]  # takes a finished episode: its id and its rows


@dataclass(frozen=True)
class Origin:
    """Where recorded episodes come from; the same for all of a process."""

    run: str
    node: str
    agent_version: str


@dataclass
class _OpenChunk:
    encoder: codecs.Encoder
    first_frame: int
    num_frames: int = 0
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    variables: dict[str, list[float]] = field(default_factory=dict)


class EpisodeRecorder:
    """Turns one episode into rows: `frame`, then `step` and `frame` in turn, then `finish`.

    What the env says beside its frames is in `info`: `variables` (name -> number) at every frame for a game that has
    them; at the first frame `level` for a game with levels, and `held_out` where it is one that nothing learns from,
    which puts the episode into the split `test`.
    """

    def __init__(self, game: GameSpec, settings: CollectConfig, origin: Origin, episode: str, seed: int) -> None:
        self.episode = episode
        self.num_frames = 0
        self._game, self._settings, self._origin, self._seed = game, settings, origin, seed
        self._schema = chunks.schema(game)
        self._rows: list[pa.Table] = []  # one each: a column that grows with every chunk would move what it has
        self._chunk: _OpenChunk | None = None
        self._level: str | None = None
        self._split = chunks.split_of(episode, settings.split_val, settings.split_test)

    def frame(self, frame: np.ndarray, info: Mapping[str, Any] = _NOTHING) -> None:
        """Take the next frame, uint8 [H, W, 3], and the env's `info` of the same moment."""
        if self.num_frames == 0:
            self._level = info["level"] if self._game.has_levels else None
            self._split = "test" if info.get("held_out") else self._split
        if self._chunk is not None and self._chunk.num_frames == self._settings.chunk_frames:
            self._close_chunk(terminated=False, truncated=False)
        if self._chunk is None:
            encoder = codecs.encoder(self._settings.codec, self._game.frames_per_second)
            names = self._game.variables
            self._chunk = _OpenChunk(encoder, self.num_frames, variables={name: [] for name in names})
        self._chunk.encoder.add(frame)
        for name, values in self._chunk.variables.items():
            values.append(info["variables"][name])
        self._chunk.num_frames += 1
        self.num_frames += 1

    def step(self, action: int, reward: float) -> None:
        """Take what was done after the last frame and what it earned."""
        assert self._chunk is not None, "a frame comes first"
        self._chunk.actions.append(int(action))
        self._chunk.rewards.append(float(reward))

    def finish(self, terminated: bool, truncated: bool) -> pa.Table:
        """End the episode after its last frame and return its rows in order.

        They are one batch: Ray Data writes the batches of a table side by side, in any order.
        """
        self._close_chunk(terminated, truncated)
        return pa.concat_tables(self._rows).combine_chunks()

    def _close_chunk(self, terminated: bool, truncated: bool) -> None:
        assert self._chunk is not None, "an episode has at least one frame"
        settings, part = self._settings, self._chunk
        chunk = chunks.Chunk(
            run=self._origin.run,
            episode=self.episode,
            chunk=len(self._rows),
            first_frame=part.first_frame,
            frames=codecs.EncodedFrames(part.encoder.finish(), settings.codec, part.num_frames),
            actions=np.asarray(part.actions, np.int16),
            rewards=np.asarray(part.rewards, np.float32),
            terminated=terminated,
            truncated=truncated,
            agent_version=self._origin.agent_version,
            seed=self._seed,
            node=self._origin.node,
            split=self._split,
            variables={name: np.asarray(values, np.float32) for name, values in part.variables.items()},
            level=self._level,
        )
        row = chunks.to_row(chunk, codec=settings.codec, frames_per_second=self._game.frames_per_second)
        self._rows.append(pa.Table.from_pylist([row], schema=self._schema))
        self._chunk = None


def viewer(env: gymnasium.Env) -> Callable[[], np.ndarray]:
    """Return the function that shows an env to a recorder, which keeps no frame: where it can, without a copy."""
    return env.get_wrapper_attr("view_frame") if env.has_wrapper_attr("view_frame") else env.render


class RecordingEnv(gymnasium.Wrapper):
    """Records every episode of an env and hands its rows to `sink` when it has ended.

    An episode is cut (truncated) after `settings.max_episode_frames` frames, or where `reset` or `close` interrupts it.

    Args:
        name: starts the episodes' ids; with a number and random letters it is unique for ever.
        seed: episode k is reset with a seed drawn from (seed, k), so an env never plays the same episode twice.
        share: of the episodes, drawn at random, is recorded.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        settings: CollectConfig,
        origin: Origin,
        sink: Sink,
        name: str,
        seed: int,
        share: float = 1.0,
    ) -> None:
        super().__init__(env)
        self.settings, self.origin, self.sink = settings, origin, sink
        self._show = viewer(env)
        self._game: GameSpec = env.unwrapped.game_spec  # type: ignore[attr-defined]
        self._name = f"{name}-{uuid.uuid4().hex[:8]}"
        self._seeds = np.random.default_rng(seed)
        self._share, self._draws = share, np.random.default_rng([seed, 1])
        self._count = self._num_frames = 0
        self._recorder: EpisodeRecorder | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._end(terminated=False, truncated=True)
        seed = int(self._seeds.integers(2**31)) if seed is None else seed
        observation, info = self.env.reset(seed=seed, options=options)
        self._num_frames = 1
        if self._draws.random() < self._share:
            episode = f"{self._name}-{self._count:05d}"
            self._recorder = EpisodeRecorder(self._game, self.settings, self.origin, episode, seed)
            self._recorder.frame(self._show(), info)
            self._count += 1
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception:
            self._recorder = None  # a game that breaks off has not ended: half an episode is none
            raise
        self._num_frames += 1
        truncated = truncated or (not terminated and self._num_frames >= self.settings.max_episode_frames)
        if self._recorder is not None:
            self._recorder.step(int(action), float(reward))
            self._recorder.frame(self._show(), info)
            if terminated or truncated:
                self._end(terminated, truncated)
        return observation, float(reward), terminated, truncated, info

    def name_agent(self, version: str) -> None:
        """Set the `agent_version` of the episodes that begin from now on."""
        self.origin = dataclasses.replace(self.origin, agent_version=version)

    def close(self) -> None:
        self._end(terminated=False, truncated=True)
        self.env.close()

    def _end(self, terminated: bool, truncated: bool) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None and recorder.num_frames > 1:  # one frame shows nothing of the game
            self.sink(recorder.episode, recorder.finish(terminated, truncated))
