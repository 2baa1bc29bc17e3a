"""Reads and decodes every row of a folder of shards and says, a line each, what is damaged; repairs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gamengen.data.chunk import from_row, game_of
from gamengen.game import GameSpec
from gamengen.progress import Progress
from gamengen.storage import reading

_AGAIN = "Delete it and run what made it again; an agent's play (agent-*) alone does not come back."
# Columns that every shard has and fills; those of some games only, such as variables, may be missing or null.
_REQUIRED = ("run", "episode", "chunk", "first_frame", "num_frames", "actions", "rewards", "terminated", "truncated")
_REQUIRED += ("frames", "codec", "agent_version", "seed", "node", "split")
_SPLITS = ("train", "val", "test")


@dataclass
class Result:
    """What a check found.

    Attributes:
        damages: one line each: file, episode, what is wrong, what to do.
        good: the shards without any.
        game: the game of the folder: its first whole shard's.
        frames: how many were decoded.
    """

    damages: list[str] = field(default_factory=list)
    good: list[str] = field(default_factory=list)
    game: GameSpec | None = None
    frames: int = 0


def check(names: Sequence[str]) -> Result:
    """Check shards; takes as long as decoding all that they hold."""
    result, homes = Result(), dict[str, str]()
    whole = [(name, file) for name in names if (file := _open(name, result)) is not None]
    progress = Progress("check", sum(file.metadata.num_rows for _, file in whole), "chunks")
    done = 0
    for name, file in whole:
        places, before = _Places(name, homes), len(result.damages)
        for row in _rows(name, file, result):
            result.damages += [f"{name}: {what}" for what in _of_row(row, result, places)]
            done += 1
            progress.tell(done)
        result.damages += [f"{name}: {what}" for what in places.unfinished()]
        if len(result.damages) == before:
            result.good.append(name)
    return result


def _open(name: str, result: Result) -> pq.ParquetFile | None:
    """Look at a footer: whole, ours, of the one game, with all columns."""
    try:
        file = reading(name, lambda files, path: pq.ParquetFile(path, filesystem=files))
        game = game_of(file.schema_arrow, name)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        result.damages.append(
            f"{name}: not a whole Parquet file ({reason}). If it is still being written, wait. {_AGAIN}"
        )
        return None
    except ValueError as error:
        result.damages.append(f"{name}: {str(error).removeprefix(name).strip()} Move it elsewhere.")
        return None
    missing = [column for column in _REQUIRED if column not in file.schema_arrow.names]
    if missing:
        result.damages.append(f"{name}: has no column {', '.join(missing)}; expected recorded frames. {_AGAIN}")
        return None
    result.game = result.game or game
    if game != result.game:
        result.damages.append(
            f"{name}: holds {game.name} at {game.width}x{game.height}, {game.frames_per_second:g} frames per second; "
            f"expected {result.game.name} at {result.game.width}x{result.game.height}, "
            f"{result.game.frames_per_second:g} and the same actions, as the other shards. Move it to another folder."
        )
        return None
    return file


def _rows(name: str, file: pq.ParquetFile, result: Result) -> Iterator[Mapping[str, Any]]:
    number = 0
    try:
        for batch in file.iter_batches(batch_size=1):
            yield batch.to_pylist()[0]
            number += 1
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        result.damages.append(f"{name}: row {number} of {file.metadata.num_rows} cannot be read ({reason}). {_AGAIN}")


def _of_row(row: Mapping[str, Any], result: Result, places: _Places) -> list[str]:
    """Return the damages of a row, in itself and in its episode."""
    where = f"episode {row['episode']} chunk {row['chunk']}"
    empty = [column for column in _REQUIRED if row[column] is None]
    if empty:
        return [f"{where}: {', '.join(empty)} is null. {_AGAIN}"]
    found = [f"{where}: {what} {_AGAIN}" for what in _content(row, result)]
    return found + [f"{where}: {what}" for what in places.check(row)]


def _content(row: Mapping[str, Any], result: Result) -> Iterator[str]:
    game, count, actions = result.game, row["num_frames"], row["actions"]
    assert game is not None
    if count < 1:
        yield f"num_frames is {count}; expected at least 1."
    if len(actions) not in (count, count - 1) or len(row["rewards"]) != len(actions):
        yield f"{len(actions)} actions and {len(row['rewards'])} rewards for {count} frames; expected one per frame."
        return
    wrong = [action for action in actions if action is None or not 0 <= action < game.num_actions]
    if wrong:
        yield f"action {wrong[0]} is none of the game's; expected 0 to {game.num_actions - 1}."
    if not all(reward is not None and np.isfinite(reward) for reward in row["rewards"]):
        yield "a reward is not a finite number."
    if row["split"] not in _SPLITS:
        yield f"split is {row['split']!r}; expected one of {', '.join(_SPLITS)}."
    try:
        shape = from_row(row).frames.shape
    except Exception as error:  # whatever damaged bytes make a decoder do, it must not end the check
        yield f"cannot be decoded: {_reason(row, error)}."
        return
    result.frames += shape[0]
    if shape != (count, game.height, game.width, 3):
        yield f"frames are {shape}; expected {(count, game.height, game.width, 3)}."


def _reason(row: Mapping[str, Any], error: Exception) -> str:
    """Return what a decoder says, without where (that stands before it) and what to do (that comes after it)."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    text = text.removeprefix(f"episode {row['episode']} chunk {row['chunk']}: ")
    return text.split("; delete the shard")[0].split(". Delete the shard")[0].rstrip(".")


@dataclass
class _Episode:
    chunks: int = 0
    frames: int = 0
    split: str = ""
    ended: bool = False
    reported: bool = False  # one line about what is missing is enough


class _Places:
    """Follows the episodes of one shard: every chunk in its place, once.

    Args:
        homes: episode -> shard, of all shards so far; those of this one are added.
    """

    def __init__(self, shard: str, homes: dict[str, str]) -> None:
        self._shard, self._homes = shard, homes
        self._episodes: dict[str, _Episode] = {}
        self._last = ""

    def check(self, row: Mapping[str, Any]) -> Iterator[str]:
        """Check the next row against those before it."""
        name, before, self._last = row["episode"], self._last, row["episode"]
        home = self._homes.setdefault(name, self._shard)
        if home != self._shard:
            yield f"the episode is also in {home}; expected all its chunks in one shard. Delete one of the two shards."
            return
        known = self._episodes.setdefault(name, _Episode(split=row["split"]))
        if row["chunk"] < known.chunks:
            yield f"the chunk is there twice, or after a later one. {_AGAIN}"
            return
        if row["chunk"] > known.chunks or row["first_frame"] != known.frames:
            known.reported = True
            yield (
                f"begins at frame {row['first_frame']}; expected chunk {known.chunks} from frame {known.frames}: "
                f"something is missing. {_AGAIN}"
            )
        elif known.chunks and before != name:
            yield f"chunks of other episodes stand before it; expected an episode's chunks in a row. {_AGAIN}"
        yield from self._of_episode(row, known)
        known.chunks, known.frames = row["chunk"] + 1, row["first_frame"] + row["num_frames"]

    def unfinished(self) -> list[str]:
        """Return a line for every episode that has no end; call it after the last row."""
        return [
            f"episode {name}: its end is missing after {known.frames} frames. {_AGAIN}"
            for name, known in self._episodes.items()
            if not (known.ended or known.reported)
        ]

    def _of_episode(self, row: Mapping[str, Any], known: _Episode) -> Iterator[str]:
        is_last = len(row["actions"]) < row["num_frames"]
        if row["split"] != known.split:
            yield f"split is {row['split']}, before it was {known.split}; expected one per episode. {_AGAIN}"
        if known.ended:
            yield f"the episode goes on after its end. {_AGAIN}"
        if (row["terminated"] or row["truncated"]) and not is_last:
            yield f"terminated or truncated in a chunk that is not the last. {_AGAIN}"
        known.ended = is_last
