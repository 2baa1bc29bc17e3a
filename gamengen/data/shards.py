"""Parquet shards: which of a folder are whole and of the right game, and the episodes in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from gamengen.data.chunk import Chunk, from_row, game_of
from gamengen.data.lazy import FrameCache, LazyFrames
from gamengen.game import GameSpec
from gamengen.storage import exists, filesystem, list_files, read_json, reading, write_bytes, write_json  # noqa: F401

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Episode:
    """A whole episode: frames (uint8, or `LazyFrames`) or latents (float16) [T, ...], and the T-1 actions and rewards
    between them.

    `variables` are the game's numbers at every frame, float32 [T] by name, where the game has any.
    """

    id: str
    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    agent_version: str
    split: str
    variables: Mapping[str, np.ndarray] = field(default_factory=dict)
    level: str | None = None

    def __len__(self) -> int:
        return len(self.frames)


def find(folder: str, game: GameSpec | None = None) -> list[str]:
    """Return the shards of a folder after a look at every footer.

    Raises:
        ValueError: no shards, a half-written or foreign file, or a shard of another game than `game`.
    """
    shards = list_files(folder, ".parquet")
    if not shards:
        raise ValueError(f"no shards in {folder}; expected *.parquet files. Run the phase that writes them first.")
    for shard in shards:
        try:
            found = schema(shard)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(
                f"{shard} is not a whole Parquet file ({str(error).splitlines()[0]}). "
                "Nothing else is lost: delete it, and run the phase that wrote it again "
                "(an agent's play, agent-*, alone does not come back)."
            ) from None
        recorded = game_of(found, shard)
        if game is not None and recorded != game:
            raise ValueError(
                f"{shard} holds {recorded.name} at {recorded.width}x{recorded.height}, {recorded.frames_per_second:g} "
                f"frames per second; expected {game.name} at {game.width}x{game.height}, {game.frames_per_second:g}. "
                "Give this run another name, or set the game as it was recorded."
            )
    return shards


def schema(shard: str) -> pa.Schema:
    """Read a shard's schema; raises OSError or ArrowInvalid if it is not a whole Parquet file."""
    return reading(shard, lambda files, path: pq.read_schema(path, filesystem=files))


def read(shard: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one shard; raises ValueError naming it if it is damaged."""
    wanted = list(columns) if columns else None
    try:
        return reading(shard, lambda files, path: pq.read_table(path, columns=wanted, filesystem=files))
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{shard} cannot be read: {error}") from None


def chunks(shard: str, split: str | None = None, cache: FrameCache | None = None) -> Iterator[Chunk]:
    """Decode the chunks of a shard in the order in which they were written, of one split or of all.

    With a cache, their frames are decoded when they are looked at.
    """
    table = read(shard)
    if split is not None:
        table = table.filter(pa.compute.equal(table["split"], split))
    for batch in table.to_batches(max_chunksize=1):
        yield from_row(
            {name: column[0].as_py() for name, column in zip(batch.schema.names, batch.columns, strict=True)}, cache
        )


def episodes(shards: Sequence[str], split: str | None = None, cache: FrameCache | None = None) -> Iterator[Episode]:
    """Join the chunks of each episode; all chunks of an episode stand in one shard, in order; for `cache` see `chunks`.

    Raises:
        ValueError: an episode with a missing chunk.
    """
    for shard in shards:
        parts: list[Chunk] = []
        for chunk in chunks(shard, split, cache):
            if parts and parts[0].episode != chunk.episode:
                yield _join(parts, shard)
                parts = []
            parts.append(chunk)
        if parts:
            yield _join(parts, shard)


def _join(parts: list[Chunk], shard: str) -> Episode:
    expected = 0
    for part in parts:
        if part.first_frame != expected:
            raise ValueError(f"{shard}: episode {part.episode} misses frame {expected}; record it again.")
        expected += len(part.frames)
    return Episode(
        id=parts[0].episode,
        frames=_joined([part.frames for part in parts]),
        actions=np.concatenate([part.actions for part in parts])[: expected - 1],
        rewards=np.concatenate([part.rewards for part in parts])[: expected - 1],
        terminated=parts[-1].terminated,
        agent_version=parts[0].agent_version,
        split=parts[0].split,
        variables={name: np.concatenate([part.variables[name] for part in parts]) for name in parts[0].variables},
        level=parts[0].level,
    )


def _joined(frames: list[Any]) -> Any:
    if len(frames) == 1:
        return frames[0]
    return LazyFrames.concatenate(frames) if isinstance(frames[0], LazyFrames) else np.concatenate(frames)
