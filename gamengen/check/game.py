"""The parts `game` and `shards`: plays a run's game, records what was played, and reads it back."""

from __future__ import annotations

import io
import re
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from gamengen import envs, metrics, storage
from gamengen.collect import policies
from gamengen.collect.recording import EpisodeRecorder, Origin
from gamengen.collect.writer import PARQUET
from gamengen.config import Config
from gamengen.data import shards
from gamengen.data.shards import Episode
from gamengen.game import GameSpec

NUM_FRAMES = 200
_LOWEST_PSNR = 25.0  # dB, of a lossy codec
_LOSSY = re.compile(r"(jpeg|crf)\d+$")


@dataclass
class PlayedEpisode:
    """An episode as an env gave it; `infos` are those of the frames."""

    frames: list[np.ndarray]
    infos: list[dict[str, Any]]
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False


@dataclass(frozen=True)
class Play:
    """Some play of a game."""

    game: GameSpec
    episodes: list[PlayedEpisode]
    seconds: float

    def __str__(self) -> str:
        size, frames = f"{self.game.width}x{self.game.height}", sum(len(episode.frames) for episode in self.episodes)
        return f"{self.game.name} plays, {frames} frames of {size}, {frames / self.seconds:,.0f} per second"


def play(config: Config) -> Play:
    """Play the run's game at random; raises ValueError where the frames are not what its spec says."""
    envs.require_playable(config.game.name)
    env = envs.make(config.game.name, **config.game.options)
    game: GameSpec = env.unwrapped.game_spec  # type: ignore[attr-defined]
    player, rng = policies.RandomPolicy(game), np.random.default_rng(config.seed)
    player.reset(rng)
    episodes: list[PlayedEpisode] = []
    begun, ended = time.perf_counter(), True
    try:
        for _ in range(NUM_FRAMES):
            if ended:
                observation, info = env.reset(seed=int(rng.integers(2**31)))
                episodes.append(PlayedEpisode([env.render().copy()], [info]))
                ended = False
                continue
            episode, action = episodes[-1], player.action(observation, info)
            observation, reward, episode.terminated, truncated, info = env.step(action)
            episode.actions.append(action)
            episode.rewards.append(float(reward))
            episode.frames.append(env.render().copy())
            episode.infos.append(info)
            ended = episode.terminated or truncated
    finally:
        env.close()
    _check_frames(game, [frame for episode in episodes for frame in episode.frames])
    return Play(game, episodes, time.perf_counter() - begun)


def _check_frames(game: GameSpec, frames: list[np.ndarray]) -> None:
    expected = (game.height, game.width, 3)
    wrong = {(frame.shape, str(frame.dtype)) for frame in frames} - {(expected, "uint8")}
    if wrong:
        raise ValueError(f"the game {game.name} renders {sorted(wrong)}; expected uint8 {expected}, as its spec says.")
    if all(np.array_equal(game.visible(frame), game.visible(frames[0])) for frame in frames):
        raise ValueError(f"the game {game.name} stands still: {len(frames)} frames are all the same one.")


def round_trip(config: Config, played: Play) -> str:
    """Record what was played, read it back and compare."""
    folder, game = f"{config.folder}/round-trip", played.game
    for number, episode in enumerate(played.episodes):
        recorder = EpisodeRecorder(game, config.collect, Origin(config.run, "here", "random"), f"{number}", number)
        recorder.frame(episode.frames[0], episode.infos[0])
        for done in zip(episode.actions, episode.rewards, episode.frames[1:], episode.infos[1:], strict=True):
            recorder.step(*done[:2])
            recorder.frame(*done[2:])
        with io.BytesIO() as file:
            pq.write_table(recorder.finish(episode.terminated, not episode.terminated), file, **PARQUET)
            storage.write_bytes(f"{folder}/{number}.parquet", file.getvalue())
    read = {episode.id: episode for episode in shards.episodes(shards.find(folder, game))}
    size = sum(len(storage.read_bytes(file)) for file in storage.list_files(folder, ".parquet"))
    worst = metrics.MAX_PSNR
    for number, episode in enumerate(played.episodes):
        worst = min(worst, _compare(game, config.collect.codec, episode, read[f"{number}"]))
    quality = f"the worst frame at {worst:.1f} dB" if _LOSSY.search(config.collect.codec) else "every pixel the same"
    frames = sum(len(episode.frames) for episode in played.episodes)
    return f"{config.collect.codec} is read back as it was written, {size / frames:,.0f} bytes a frame, {quality}"


def _compare(game: GameSpec, codec: str, episode: PlayedEpisode, read: Episode) -> float:
    """Return the PSNR of the worst frame; raises ValueError where what was read is not what was played."""
    named = {name: [info["variables"][name] for info in episode.infos] for name in game.variables}
    same = np.array_equal(read.actions, episode.actions) and np.array_equal(read.rewards, np.float32(episode.rewards))
    same = same and all(np.array_equal(read.variables[name], np.float32(values)) for name, values in named.items())
    if not same or read.frames.shape[0] != len(episode.frames) or read.terminated != episode.terminated:
        raise ValueError(f"a shard of {game.name} does not hold the actions, rewards or variables that were played.")
    written = np.stack(episode.frames)
    if np.array_equal(read.frames, written):
        return metrics.MAX_PSNR
    worst = float(metrics.psnr(game.visible(read.frames), game.visible(written)).min())
    if not _LOSSY.search(codec) or worst < _LOWEST_PSNR:
        lowest = f"at least {_LOWEST_PSNR:g} dB" if _LOSSY.search(codec) else "every pixel as it was"
        raise ValueError(f"collect.codec {codec} gives frames of {worst:.1f} dB back; expected {lowest}.")
    return worst
