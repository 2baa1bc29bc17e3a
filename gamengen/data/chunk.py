"""A chunk: contiguous steps of one episode, and the one Parquet schema in which it is stored."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from gamengen.data import codec as codecs
from gamengen.data.lazy import FrameCache, LazyFrames
from gamengen.game import GameSpec

SCHEMA_VERSION = "1"
Split = Literal["train", "val", "test"]

_STEP_FIELDS = [
    ("run", pa.string()),
    ("episode", pa.string()),
    ("chunk", pa.int32()),
    ("first_frame", pa.int32()),
    ("num_frames", pa.int32()),
    ("actions", pa.list_(pa.int16())),
    ("rewards", pa.list_(pa.float32())),
    ("terminated", pa.bool_()),
    ("truncated", pa.bool_()),
]
_OPTIONAL = ("variables", "level")  # columns of games that have them
_ORIGIN_FIELDS = [("agent_version", pa.string()), ("seed", pa.int64()), ("node", pa.string()), ("split", pa.string())]
FRAME_FIELDS = pa.schema([*_STEP_FIELDS, ("frames", pa.large_binary()), ("codec", pa.string()), *_ORIGIN_FIELDS])
LATENT_FIELDS = pa.schema(
    [*_STEP_FIELDS, ("latents", pa.large_binary()), ("latent_shape", pa.list_(pa.int32())), *_ORIGIN_FIELDS]
)


@dataclass(frozen=True)
class Chunk:
    """Steps `first_frame ... first_frame + num_frames - 1` of an episode.

    `actions[t]` is what was done between frames t and t+1 and `rewards[t]` what it earned, so the last chunk of an
    episode has one action and one reward fewer than frames: nothing is done after the last frame. `terminated` and
    `truncated` are those of the episode's end and so only ever true in its last chunk.

    Attributes:
        frames: uint8 [T, height, width, 3] as recorded, or float16 [T, channels, rows, columns] latents.
        agent_version: the policy that played, such as "random", "scripted" or "dqn-12800".
        variables: the game's numbers at every frame, float32 [T] by name; empty for a game without.
        level: what was played on; None for a game without levels.
    """

    run: str
    episode: str
    chunk: int
    first_frame: int
    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool
    agent_version: str
    seed: int
    node: str
    split: str
    variables: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    level: str | None = None

    def __post_init__(self) -> None:
        assert len(self.frames) - len(self.actions) in (0, 1), "every frame but an episode's last has its action"
        assert len(self.actions) == len(self.rewards)
        assert all(len(values) == len(self.frames) for values in self.variables.values()), "one value per frame"


def split_of(episode: str, val: float, test: float) -> Split:
    """Assign an episode to train, val or test by a hash of its id, so that no episode leaks and no list is kept."""
    position = int.from_bytes(hashlib.sha256(episode.encode()).digest()[:8], "big") / 2**64
    return "test" if position < test else "val" if position < test + val else "train"


def schema(game: GameSpec, *, latents: bool = False) -> pa.Schema:
    """Return the Parquet schema of a game's frame (or latent) shards, with the GameSpec in its metadata.

    A game with variables has one column more, a struct of lists: Parquet stores each variable by itself, so that
    reading one does not read all. A game with levels has the column `level`.
    """
    fields = LATENT_FIELDS if latents else FRAME_FIELDS
    if game.variables:
        each = [(name, pa.list_(pa.float32())) for name in game.variables]
        fields = fields.append(pa.field("variables", pa.struct(each)))
    if game.has_levels:
        fields = fields.append(pa.field("level", pa.string()))
    return fields.with_metadata({"gamengen.game": game.to_json(), "gamengen.schema_version": SCHEMA_VERSION})


def game_of(parquet_schema: pa.Schema, where: str) -> GameSpec:
    """Read the GameSpec of a shard.

    Raises:
        ValueError: the file is not a gamengen shard, or of a schema version that this code does not read.
    """
    metadata: Mapping[bytes, bytes] = parquet_schema.metadata or {}
    if b"gamengen.game" not in metadata:
        raise ValueError(f"{where} is not a gamengen shard: it has no 'gamengen.game' in its metadata.")
    version = metadata.get(b"gamengen.schema_version", b"?").decode()
    if version != SCHEMA_VERSION:
        raise ValueError(f"{where} has schema version {version}; expected {SCHEMA_VERSION}. Record it again.")
    return GameSpec.from_json(metadata[b"gamengen.game"])


def to_row(chunk: Chunk, *, codec: str, frames_per_second: float) -> dict[str, Any]:
    """Encode a chunk of frames as one row of `schema(game)`."""
    row = _steps(chunk)
    row["frames"] = codecs.encode(chunk.frames, codec, frames_per_second)
    row["codec"] = codec
    return row


def to_latent_row(chunk: Chunk) -> dict[str, Any]:
    """Encode a chunk whose `frames` are float16 latents as one row of `schema(game, latents=True)`."""
    row = _steps(chunk)
    row["latents"] = np.ascontiguousarray(chunk.frames, dtype=np.float16).tobytes()
    row["latent_shape"] = list(chunk.frames.shape[1:])
    return row


def from_row(row: Mapping[str, Any], cache: FrameCache | None = None) -> Chunk:
    """Decode a row of either schema; raises ValueError naming the episode when its bytes do not decode.

    With a cache, the frames of a frame row are `LazyFrames`, decoded when they are looked at.
    """
    num_frames = int(row["num_frames"])
    name = f"episode {row['episode']} chunk {row['chunk']}"
    if "latents" in row:
        shape = (num_frames, *row["latent_shape"])
        if len(row["latents"]) != 2 * int(np.prod(shape)):
            raise ValueError(f"{name}: {len(row['latents'])} bytes of latents; expected float16 {shape}.")
        frames = np.frombuffer(row["latents"], dtype=np.float16).reshape(shape)
    elif cache is not None:
        frames = LazyFrames.of_row(row, name, cache)
    else:
        frames = codecs.decode(row["frames"], row["codec"], num_frames, name)
    return Chunk(
        **{key: row[key] for key in ("run", "episode", "chunk", "first_frame", "terminated", "truncated")},
        frames=frames,
        actions=np.asarray(row["actions"], dtype=np.int16),
        rewards=np.asarray(row["rewards"], dtype=np.float32),
        **{key: row[key] for key in ("agent_version", "seed", "node", "split")},
        variables={name: np.asarray(values, np.float32) for name, values in (row.get("variables") or {}).items()},
        level=row.get("level"),
    )


def _steps(chunk: Chunk) -> dict[str, Any]:
    has = {"variables": bool(chunk.variables), "level": chunk.level is not None}
    return {
        **{key: getattr(chunk, key) for key in _OPTIONAL if has[key]},
        "run": chunk.run,
        "episode": chunk.episode,
        "chunk": chunk.chunk,
        "first_frame": chunk.first_frame,
        "num_frames": len(chunk.frames),
        "actions": np.asarray(chunk.actions, dtype=np.int16),
        "rewards": np.asarray(chunk.rewards, dtype=np.float32),
        "terminated": bool(chunk.terminated),
        "truncated": bool(chunk.truncated),
        "agent_version": chunk.agent_version,
        "seed": chunk.seed,
        "node": chunk.node,
        "split": chunk.split,
    }
