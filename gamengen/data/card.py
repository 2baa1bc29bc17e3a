"""The dataset card: `README.md` of a run's recorded play, as Hugging Face's hub shows it; knows figures and no frames.

It lies beside the folder of shards and not in it: pandas and pyarrow take every file of a folder for Parquet.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from gamengen import hub
from gamengen.data.figures import Figures, Group, survey
from gamengen.data.shards import find
from gamengen.storage import exists, filesystem, read_bytes, write_bytes

logger = logging.getLogger(__name__)

NAME = "README.md"
FOLDER = "gameplay"  # in which the shards lie, beside the card
MARK = "<!-- Written by `gamengen data`, and again whenever play is added. Delete this line to keep your own text. -->"
COLUMNS = {
    "run": "the run that recorded it",
    "episode": "unique id of the episode",
    "chunk": "number of the chunk in its episode, from 0",
    "first_frame": "number of its first frame in the episode",
    "num_frames": "how many frames it has",
    "actions": "`actions[t]` was held between frames t and t+1: an index into the action names below",
    "rewards": "what that earned",
    "terminated": "the game ended; only ever true in an episode's last chunk",
    "truncated": "the episode was cut; only ever true in its last chunk",
    "frames": "the frames, encoded with `codec`",
    "codec": "how; see below",
    "agent_version": "who played",
    "seed": "of the play",
    "node": "the machine that recorded it",
    "split": "`train`, `val` or `test`, by a hash of the episode's id",
    "level": "the map or level that was played",
}
CODECS = {
    "delta-zstd": "lossless: per frame the blocks of 64 pixels that changed, zstd over the chunk; "
    "`gamengen.data.codec` decodes it",
    "palette-zstd": "lossless: one byte per pixel and tables of colours, zstd over the chunk; "
    "`gamengen.data.codec` decodes it",
    "png": "lossless: one PNG per frame, each after its length (uint32, little endian)",
    "jpeg": "one JPEG per frame, each after its length (uint32, little endian)",
    "h264": "one MP4 (H.264) per chunk",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SIZES += ((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"))


def refresh(folder: str, figures: Figures | None = None) -> str | None:
    """Write the card beside a folder `gameplay` and return its path.

    People's own README.md is left alone, and so is what lies around a folder of another name. Work that is done does
    not fail for its card: what hinders is a warning.
    """
    run, slash, name = folder.rstrip("/").rpartition("/")
    if name != FOLDER:
        logger.info("no card for %s: it is written beside a folder named %s", folder, FOLDER)
        return None
    card = f"{run}{slash}{NAME}"
    try:
        _remove_former(f"{folder.rstrip('/')}/{NAME}")
        if exists(card) and not _is_ours(card):
            logger.info("%s is somebody's own: left as it is", card)
            return None
        write_bytes(card, text(figures or survey(find(folder))).encode())
    except (ValueError, OSError) as error:
        logger.warning("the dataset card was not written: %s", error)
        return None
    return card


def push_play(run: str, name: str, *, private: bool = False) -> str:
    """Put a run's recorded play and its card on the Hugging Face hub as dataset `<owner>/<name>`; returns its address.

    Raises:
        ValueError: no play in the run's folder, or the hub does not take it.
    """
    find(f"{run.rstrip('/')}/{FOLDER}")
    refresh(f"{run.rstrip('/')}/{FOLDER}")
    return hub.push(run, name, (NAME, f"{FOLDER}/*.parquet"), kind="dataset", private=private)


def _is_ours(card: str) -> bool:
    return MARK in read_bytes(card).decode(errors="replace")


def _remove_former(card: str) -> None:
    """Remove a card of ours from among the shards, where it used to be."""
    if exists(card) and _is_ours(card):
        files, path = filesystem(card)
        files.delete_file(path)


def text(figures: Figures) -> str:
    """Return the card."""
    game = figures.game
    pixels = f"{game.width}x{game.height} at {game.frames_per_second:g} frames per second"
    sections = [
        _front_matter(figures),
        f"# {game.name}: recorded play",
        MARK,
        f"{figures.frames:,} frames ({figures.hours:.2f} hours) of `{game.name}`, {pixels}, in {figures.episodes:,} "
        "episodes with every action and reward: what a world model or an agent learns a game from. "
        "Recorded with gamengen.",
        _list({
            "frames": f"{figures.frames:,}",
            "episodes": f"{figures.episodes:,} ({figures.endings['terminated']:,} to the end of the game)",
            "size": f"{figures.bytes:,} bytes in {figures.shards:,} Parquet files, "
            f"{figures.bytes_per_frame:,.0f} per frame",
            "codecs": ", ".join(f"`{name}`" for name in sorted(figures.codecs)),
            "recorded on": f"{len(figures.nodes)} machine{'s' * (len(figures.nodes) != 1)}",
        }),
        "## Who played",
        _groups("agent_version", figures.policies),
        *(["## Levels", _groups("level", figures.levels)] if figures.levels else []),
        "## Splits",
        "Held-out episodes are told by the column `split`; the hub's own split `gameplay` holds all of them.",
        _groups("split", figures.splits),
        "## Actions",
        _actions(figures),
        "## Columns",
        "One row is a chunk: contiguous steps of one episode. All chunks of an episode are in one file, in order. The "
        "last one has an action and a reward fewer than frames: nothing is done after the last frame.",
        _columns(figures),
        "## Reading it",
        _reading(figures),
        "## The game",
        "In the metadata of every Parquet file under `gamengen.game`:",
        f"```json\n{game.to_json()}\n```",
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _front_matter(figures: Figures) -> str:
    size = next((name for limit, name in _SIZES if figures.rows < limit), "n>100M")
    return f"""---
pretty_name: "{figures.game.name}: recorded play"
tags: [gamengen, gameplay, world-model, reinforcement-learning, video]
size_categories: ["{size}"]
configs:
- config_name: default
  data_files:
  - split: gameplay
    path: "{FOLDER}/*.parquet"
---"""


def _list(items: Mapping[str, str]) -> str:
    return "\n".join(f"* {name}: {value}" for name, value in items.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _groups(title: str, groups: Mapping[str, Group]) -> str:
    rows = []
    for name, group in sorted(groups.items()):
        row = group.summary()
        returns = [f"{row[key]:.2f}" for key in ("return_mean", "return_min", "return_max")]
        rows.append([f"`{name}`", f"{group.frames:,}", f"{group.episodes:,}", *returns])
    return _table([title, "frames", "episodes", "mean return", "least", "most"], rows)


def _actions(figures: Figures) -> str:
    total = max(sum(figures.actions.values()), 1)
    rows = [
        [str(index), f"`{name}`", f"{figures.actions[name]:,}", f"{figures.actions[name] / total:.1%}"]
        for index, name in enumerate(figures.game.actions)
    ]
    return _table(["index", "action", "frames", "share"], rows)


def _columns(figures: Figures) -> str:
    rows = [
        [f"`{item.name}`", str(item.type).replace("<", "&lt;"), COLUMNS.get(item.name, "of this game")]
        for item in figures.schema
    ]
    return _table(["column", "type", "what it is"], rows)


def _reading(figures: Figures) -> str:
    used = {kind: CODECS[kind] for kind in CODECS if any(name.startswith(kind) for name in figures.codecs)}
    return f"""```python
import duckdb, pandas
from gamengen.data import codec

rows = pandas.read_parquet("{FOLDER}")
row = rows.iloc[0]
frames = codec.decode(row.frames, row.codec, row.num_frames, row.episode)  # uint8 [T, height, width, 3]

duckdb.sql("select agent_version, count(distinct episode), sum(num_frames) from '{FOLDER}/*.parquet' group by 1")
```

{_list({f"`{kind}`": what for kind, what in used.items()})}"""
