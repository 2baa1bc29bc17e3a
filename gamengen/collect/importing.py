"""Imports recordings made elsewhere into the run's shards, every episode exactly once, in one process without Ray.

An episode's id is made of the recording's name and content, so a job that is run again goes on with what is missing.
All recordings are looked at before the first is decoded, and a recording's episodes are handed on when the last of
them is decoded: of a video that turns out to be damaged, nothing is kept.
"""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from gamengen import envs, storage
from gamengen.collect.recording import EpisodeRecorder, Origin
from gamengen.collect.writer import EpisodeWriter, own_shards, to_bytes
from gamengen.config import Config
from gamengen.data import card, figures, foreign, shards, video
from gamengen.data import codec as codecs
from gamengen.data.foreign import Source, Steps
from gamengen.game import GameSpec
from gamengen.progress import Progress

logger = logging.getLogger(__name__)

PREFIX = "import"
VERSION = "imported"  # the `agent_version` of what others recorded
_SETTINGS = f"collect-progress/{PREFIX}.json"
_TOLD = 20  # problems that are told one by one


@dataclass(frozen=True)
class Item:
    """A recording that can be imported.

    Attributes:
        picked: for every frame to be recorded, the number of the video's frame that it is, int64 [K].
        actions: what is held after each of them, int64 [K-1].
        rewards: what that earned, float32 [K-1].
        bounds: the first frame of each of its episodes, and K.
        episodes: their ids.
    """

    source: Source
    picked: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    bounds: tuple[int, ...]
    episodes: tuple[str, ...]


def import_recordings(config: Config) -> dict[str, Any]:
    """Import the recordings of `collect.import` that are not in the run yet.

    Raises:
        ValueError: recordings that cannot be imported; each is told in a line of the log. What can be seen without
            decoding stops all; of videos that turn out to be damaged, the others are imported.
    """
    started = time.monotonic()
    gameplay, game = f"{config.folder}/gameplay", config.game_spec()
    if game.has_levels or game.variables:
        raise ValueError(
            f"collect.import: {config.game.name} records levels and variables beside its frames, which no recording "
            "made elsewhere has. Describe it as game.name: recorded, with its size, rate and actions."
        )
    codecs.encoder(config.collect.codec, game.frames_per_second)
    if storage.list_files(gameplay, ".parquet"):
        shards.find(gameplay, game)
    writer = EpisodeWriter(gameplay, PREFIX, config.collect.shard_bytes)
    before = len(writer.saved)
    settings = _settings(config, is_begun=before > 0)
    missing = [item for item in plan(config, writer) if not writer.saved.issuperset(item.episodes)]
    storage.write_json(f"{config.folder}/{_SETTINGS}", settings)
    new_frames = _import(config, game, writer, missing)
    counted = figures.survey(own_shards(gameplay, PREFIX))
    card.refresh(gameplay)
    seconds = time.monotonic() - started
    if not missing:
        logger.info(
            "nothing left to do: %d frames of %s are in %s", counted.frames, config.collect.import_folder, gameplay
        )
    return {
        "phase": "collect",
        "run": config.run,
        "frames": counted.frames,
        "episodes": counted.episodes,
        "bytes": counted.bytes,
        "policies": {VERSION: 1.0},
        "new_frames": new_frames,
        "frames_per_second": round(new_frames / seconds, 1),
        "seconds": round(seconds, 1),
        "resumed": bool(before),
        "nothing_left": not missing,
        "imported_from": config.collect.import_folder,
        "where": gameplay,
    }


def plan(config: Config, writer: EpisodeWriter) -> list[Item]:
    """Look at every recording without decoding it.

    Raises:
        ValueError: some cannot be imported, or are other ones than those of this name that were imported before.
    """
    folder, env = config.collect.import_folder, envs.make(config.game.name, **config.game.options)
    game: GameSpec = env.unwrapped.game_spec  # type: ignore[attr-defined]
    recorded = env.unwrapped if config.game.name == "recorded" else None  # only this one has rules for reading
    assert folder is not None
    sources = foreign.find(folder, recorded and recorded.camera)  # type: ignore[attr-defined]
    contents = dict(filter(None, map(_content_of, writer.saved)))
    progress = Progress("look at recordings", len(sources), "recordings")
    items, problems = [], []
    for number, source in enumerate(sources, start=1):
        try:
            steps = foreign.read(source, game, recorded and recorded.vectors)  # type: ignore[attr-defined]
            items.append(_item(config, game, source, steps, contents))
        except ValueError as error:
            problems.append(str(error))
        progress.tell(number)
    _raise(problems, len(sources), "Nothing was imported")
    return items


def _item(config: Config, game: GameSpec, source: Source, steps: Steps, contents: dict[str, str]) -> Item:
    shown = video.times(source.video)
    if len(steps.actions) not in (len(shown), len(shown) - 1):
        raise ValueError(
            f"{source.log} has {len(steps.actions)} actions for {len(shown)} frames of {source.video}; expected one "
            "per frame, or one fewer. Correct it, or take the recording away."
        )
    picked = video.resample(shown, game.frames_per_second)
    if len(picked) < 2:
        raise ValueError(f"{source.video} is shorter than two frames of the game. Take it away.")
    name = f"{config.run}-{PREFIX}-{source.name.replace('/', '__')}"
    content = _hash(source)
    if contents.get(name, content) != content:
        raise ValueError(
            f"{source.video} was imported into run {config.run!r} before, with another content; expected the same, "
            "since both would be in it. Give the recording, or the run, another name."
        )
    bounds = split(len(picked), config.collect.max_episode_frames, config.collect.chunk_frames)
    episodes = tuple(f"{name}-{content}-{number:04d}" for number in range(len(bounds) - 1))
    actions, rewards = resample(steps, picked)
    return Item(source, picked, actions, rewards, steps.terminated, bounds, episodes)


def split(num_frames: int, longest: int, shortest: int) -> tuple[int, ...]:
    """Return where episodes of `longest` frames begin, and the end; a rest under `shortest` stays with the last one."""
    begins = list(range(0, num_frames, longest))
    if len(begins) > 1 and num_frames - begins[-1] < max(shortest, 2):
        begins.pop()
    return (*begins, num_frames)


def resample(steps: Steps, picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what was done between the picked frames: the action held longest (else first), the sum of the rewards."""
    rewards = np.concatenate([[0.0], np.cumsum(steps.rewards, dtype=np.float64)])
    earned = rewards[picked[1:]] - rewards[picked[:-1]]
    actions = np.empty(len(picked) - 1, np.int64)
    last = len(steps.actions) - 1  # it goes on where the last frame is shown for longer
    for number, (begin, end) in enumerate(zip(picked[:-1].tolist(), picked[1:].tolist(), strict=True)):
        held = steps.actions[min(begin, last) : max(end, begin + 1)]
        actions[number] = Counter(held.tolist()).most_common(1)[0][0]
    return actions, earned.astype(np.float32)


def _import(config: Config, game: GameSpec, writer: EpisodeWriter, items: Sequence[Item]) -> int:
    """Decode items into shards and return their frames."""
    progress = Progress("import", sum(len(item.picked) for item in items), "frames")
    problems: list[str] = []
    done = new = 0
    for item in items:
        try:
            episodes = list(zip(item.episodes, _record(config, game, item, progress, done), strict=True))
        except ValueError as error:
            problems.append(str(error))
            continue
        finally:
            done += len(item.picked)
        for episode, rows in episodes:
            writer.add(PREFIX, episode, to_bytes(rows))
        new += len(item.picked)
    writer.flush(PREFIX)
    _raise(problems, len(items), "The others are imported")
    return new


def _record(config: Config, game: GameSpec, item: Item, progress: Progress, done: int) -> Iterator[pa.Table]:
    """Return the rows of each of a recording's episodes."""
    origin = Origin(config.run, socket.gethostname(), VERSION)
    frames = video.frames(item.source.video, item.picked, game.height, game.width)
    for episode, begin, end in zip(item.episodes, item.bounds[:-1], item.bounds[1:], strict=True):
        recorder = EpisodeRecorder(game, config.collect, origin, episode, seed=0)
        for number in range(begin, end):
            recorder.frame(next(frames))
            if number + 1 < end:
                recorder.step(int(item.actions[number]), float(item.rewards[number]))
            progress.tell(done + number + 1)
        terminated = item.terminated and end == len(item.picked)
        yield recorder.finish(terminated, truncated=not terminated)


def _settings(config: Config, is_begun: bool) -> dict[str, Any]:
    """Return what cuts and reads recordings; refuse another than what is in the run was made with."""
    uri = f"{config.folder}/{_SETTINGS}"
    now = {"max_episode_frames": config.collect.max_episode_frames, "chunk_frames": config.collect.chunk_frames}
    now |= {"game": config.game.name, "options": config.game.options}
    begun = storage.read_json(uri) if is_begun else now
    changed = [key for key in now if now[key] != begun[key]]
    if changed:
        raise ValueError(
            f"run {config.run!r} imported with another {changed[0]}, {begun[changed[0]]}, got {now[changed[0]]}; "
            "expected the same, since both would mix. Give this run another name."
        )
    return now


def _content_of(episode: str) -> tuple[str, str] | None:
    match = re.fullmatch(r"(.*)-([0-9a-f]{12})-\d{4,}", episode)
    return (match[1], match[2]) if match else None


def _hash(source: Source) -> str:
    digest = hashlib.sha256()
    for name in (source.log, source.video):
        files, path = storage.filesystem(name)
        with files.open_input_stream(path) as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()[:12]


def _raise(problems: Sequence[str], total: int, outcome: str) -> None:
    if not problems:
        return
    if len(problems) > 1:
        for problem in problems[:_TOLD]:
            logger.error("%s", problem)
    raise ValueError(f"{len(problems)} of {total} recordings cannot be imported, such as: {problems[0]} {outcome}.")
