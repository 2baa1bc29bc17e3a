"""Recordings made elsewhere: which a folder has, and what was done in them as the game's actions.

Two layouts are known, README.md in this folder has them: videos with an actions file beside each, and LeRobot's v2.
Decodes no frame; `gamengen.data.video` does.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gamengen.game import GameSpec
from gamengen.storage import exists, filesystem, list_files, read_bytes, read_json

_VIDEO = ".mp4"
_ACTIONS = (".actions.csv", ".actions.json", ".actions.npy")
_LEROBOT = ("v2.0", "v2.1")

Vectors = Mapping[str, Sequence[float]]  # action name -> the vector that means it


@dataclass(frozen=True)
class Source:
    """A recording: a video and the file that says what was done; `name` is unique in its folder."""

    name: str
    video: str
    log: str


@dataclass(frozen=True)
class Steps:
    """What was done in a recording at each of its own frames: `actions` int64 [N], `rewards` float32 [N]."""

    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool


def find(folder: str, camera: str | None = None) -> list[Source]:
    """Return the recordings of a folder.

    Args:
        camera: which video of a LeRobot dataset; by default its first.

    Raises:
        ValueError: no recordings, a layout that is not read, or an unknown camera.
    """
    folder = folder.rstrip("/")
    if exists(f"{folder}/meta/info.json"):
        return _lerobot(folder, camera)
    found = {end: _stems(folder, end) for end in (_VIDEO, *_ACTIONS)}
    stems = sorted(set().union(*found.values()))
    if not found[_VIDEO]:
        raise ValueError(
            f"no recordings in {folder}; expected <name>.mp4 with <name>.actions.csv, .json or .npy, or a LeRobot "
            "dataset (meta/info.json). Give collect.import the folder that holds them."
        )
    sources = []
    for stem in stems:
        end = next((end for end in _ACTIONS if stem in found[end]), _ACTIONS[0])
        sources.append(Source(stem, f"{folder}/{stem}{_VIDEO}", f"{folder}/{stem}{end}"))
    return sources


def read(source: Source, game: GameSpec, vectors: Vectors | None = None) -> Steps:
    """Read what was done in a recording.

    Raises:
        ValueError: a missing or damaged file, or actions that are not the game's.
    """
    if not exists(source.log):
        stem = source.video.removesuffix(_VIDEO)
        wanted = source.log if source.log.endswith(".parquet") else " or ".join(f"{stem}{end}" for end in _ACTIONS)
        raise ValueError(f"{source.video} has no actions; expected {wanted}. Add it, or take the video away.")
    if not exists(source.video):
        raise ValueError(f"{source.log} has no video; expected {source.video}. Add it, or take the other away.")
    done = False
    try:
        if source.log.endswith(".parquet"):
            actions, rewards, done = _read_parquet(source.log)
        elif source.log.endswith(".csv"):
            actions, rewards = _read_csv(read_bytes(source.log).decode())
        elif source.log.endswith(".json"):
            actions, rewards = _read_json(json.loads(read_bytes(source.log)))
        else:
            actions, rewards = np.load(io.BytesIO(read_bytes(source.log)), allow_pickle=False).tolist(), None
        if not isinstance(actions, list):
            raise ValueError(f"holds {type(actions).__name__}; expected a list of actions, one per frame")
        earned = np.zeros(len(actions), np.float32) if rewards is None else np.asarray(rewards, np.float32)
        if earned.shape != (len(actions),) or not np.isfinite(earned).all():
            raise ValueError(f"has {len(actions)} actions and {earned.size} rewards; expected a number for each action")
        return Steps(_to_indices(actions, game, vectors), earned, done)
    except (ValueError, TypeError, EOFError, OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(f"{source.log}: {reason}. Correct it, or take the recording away.") from None


def _stems(folder: str, end: str) -> set[str]:
    names = [name[len(folder) + 1 :] for name in list_files(folder, end, recursive=True)]
    return {name.removesuffix(end) for name in names if not name.rpartition("/")[2].startswith(".")}


def _lerobot(folder: str, camera: str | None) -> list[Source]:
    about = f"{folder}/meta/info.json"
    try:
        info = read_json(about)
        version, features = info["codebase_version"], info["features"]
        if version not in _LEROBOT:
            raise ValueError(
                f"{about} is of version {version}; expected {' or '.join(_LEROBOT)}, a file per episode. "
                "Convert it with LeRobot's tools."
            )
        cameras = [name for name, feature in features.items() if feature["dtype"] == "video"]
        if not cameras or camera not in (None, *cameras):
            raise ValueError(
                f"{about} has no video {camera or ''}; expected one of {', '.join(cameras) or 'them'}. "
                "Set game.options.camera to one that it has."
            )
        sources = []
        for number in range(info["total_episodes"]):
            place = {"episode_chunk": number // info["chunks_size"], "episode_index": number}
            video = info["video_path"].format(**place, video_key=camera or cameras[0])
            log = info["data_path"].format(**place)
            sources.append(Source(f"episode_{number:06d}", f"{folder}/{video}", f"{folder}/{log}"))
        return sources
    except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
        raise ValueError(f"{about} is not LeRobot's: {type(error).__name__} {error}. Give its whole dataset.") from None


def _read_parquet(path: str) -> tuple[list[Any], list[Any] | None, bool]:
    files, inner = filesystem(path)
    names = pq.read_schema(inner, filesystem=files).names
    if "action" not in names:
        raise ValueError(f"has no column 'action', got {', '.join(names)}")
    wanted = [name for name in ("action", "next.reward", "next.done") if name in names]
    table = pq.read_table(inner, columns=wanted, filesystem=files)
    columns = {name: [_only(value) for value in table[name].to_pylist()] for name in wanted}
    return columns["action"], columns.get("next.reward"), bool(columns.get("next.done", [False])[-1])


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _read_csv(text: str) -> tuple[list[Any], list[Any] | None]:
    lines = [line for line in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in line)]
    heads = [cell.strip().lower() for cell in lines[0]] if lines else []
    if "action" not in heads:
        return [line[0].strip() for line in lines], None
    rows = [dict(zip(heads, line, strict=False)) for line in lines[1:]]
    rewards = [float(row.get("reward") or "nan") for row in rows] if "reward" in heads else None
    return [row.get("action", "").strip() for row in rows], rewards


def _read_json(tree: Any) -> tuple[Any, Any]:
    return (tree["actions"], tree.get("rewards")) if isinstance(tree, dict) and "actions" in tree else (tree, None)


def _to_indices(values: list[Any], game: GameSpec, vectors: Vectors | None) -> np.ndarray:
    """Return indices of actions that are given as names, indices or vectors."""
    numeric = all(not isinstance(value, str) for value in values)
    if numeric and values and (vectors or isinstance(values[0], list)):
        return _nearest(np.asarray(values, dtype=float).reshape(len(values), -1), game, vectors)
    return np.asarray([_index(value, frame, game) for frame, value in enumerate(values)], dtype=np.int64)


def _nearest(values: np.ndarray, game: GameSpec, vectors: Vectors | None) -> np.ndarray:
    if vectors is None and values.shape[1] == game.num_actions:
        return values.argmax(axis=1)  # one number for each action
    table = np.asarray([vectors[name] for name in game.actions], dtype=float) if vectors else np.empty((0, 0))
    if table.shape[1] != values.shape[1]:
        raise ValueError(
            f"an action is {values.shape[1]} numbers; expected {table.shape[1] or game.num_actions}. "
            "Say in game.options.vectors which numbers mean which action"
        )
    return np.square(values[:, None] - table).sum(axis=2).argmin(axis=1)


def _index(value: Any, frame: int, game: GameSpec) -> int:
    if value in game.actions:
        return game.actions.index(value)
    try:
        index = int(value)
        is_whole = index == float(value)
    except (TypeError, ValueError):
        near = difflib.get_close_matches(str(value), game.actions, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown action {value!r} at frame {frame}; did you mean {near!r}?") from None
    if not is_whole or not 0 <= index < game.num_actions:
        raise ValueError(
            f"action {value} at frame {frame}; expected a name, or a whole number from 0 to {game.num_actions - 1}"
        )
    return index
