"""What is in a folder of shards, in figures: counted from every column but the frames, which it never reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gamengen.data import shards
from gamengen.data.chunk import FRAME_FIELDS, game_of
from gamengen.game import GameSpec
from gamengen.progress import Progress
from gamengen.storage import filesystem

LEVEL = "level"  # a column of games with several maps
_COLUMNS = ["run", "episode", "chunk", "num_frames", "actions", "rewards", "terminated", "truncated"]
_COLUMNS += ["codec", "agent_version", "node", "split"]
_FEW_VERSIONS = 4  # of one agent; more are counted together, as an agent's training has hundreds


@dataclass
class Group:
    """A part of the episodes, such as one policy's, and their returns (sums of rewards)."""

    frames: int = 0
    episodes: int = 0
    returns: list[float] = field(default_factory=list)

    def add(self, other: Group) -> None:
        self.frames += other.frames
        self.episodes += other.episodes
        self.returns += other.returns

    def summary(self) -> dict[str, Any]:
        """Return plain numbers."""
        low, mean, high = (float(np.round(f(self.returns), 3)) for f in (np.min, np.mean, np.max))
        counts = {"frames": self.frames, "episodes": self.episodes}
        return {**counts, "return_mean": mean, "return_min": low, "return_max": high}


@dataclass
class Figures:
    """What `survey` counts; `codecs`, `nodes`, `runs` and `endings` say how many frames or episodes each has."""

    game: GameSpec
    schema: pa.Schema
    shards: int = 0
    rows: int = 0
    bytes: int = 0
    frames: int = 0
    episodes: int = 0
    num_versions: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    codecs: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    policies: dict[str, Group] = field(default_factory=dict)
    splits: dict[str, Group] = field(default_factory=dict)
    levels: dict[str, Group] = field(default_factory=dict)

    @property
    def hours(self) -> float:
        """Hours of game time."""
        return self.frames / self.game.frames_per_second / 3600

    @property
    def bytes_per_frame(self) -> float:
        return self.bytes / max(self.frames, 1)

    @property
    def more_columns(self) -> dict[str, str]:
        """Columns that are not of every game, such as game variables, and their types."""
        return {item.name: str(item.type) for item in self.schema if item.name not in FRAME_FIELDS.names}

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values."""
        counts = ("shards", "rows", "bytes", "frames", "episodes", "num_versions")
        counters = ("actions", "codecs", "nodes", "runs", "endings")
        return {
            "game": self.game.name,
            "frame": [self.game.height, self.game.width],
            "frames_per_second": self.game.frames_per_second,
            **{name: getattr(self, name) for name in counts},
            "hours": round(self.hours, 4),
            "bytes_per_frame": round(self.bytes_per_frame, 1),
            **{name: dict(getattr(self, name)) for name in counters},
            **{
                name: {key: group.summary() for key, group in getattr(self, name).items()}
                for name in ("policies", "splits", "levels")
            },
            "more_columns": self.more_columns,
        }


def survey(names: Sequence[str]) -> Figures:
    """Count what is in whole shards of one game (see `shards.find`)."""
    schema = shards.schema(names[0])
    figures = Figures(game_of(schema, names[0]), schema)
    versions: dict[str, Group] = {}
    progress = Progress("figures", len(names), "shards")
    for name in names:
        files, path = filesystem(name)
        figures.shards += 1
        figures.bytes += files.get_file_info(path).size
        present = shards.schema(name).names
        _count(figures, versions, shards.read(name, [*_COLUMNS, *([LEVEL] if LEVEL in present else [])]))
        progress.tell(figures.shards)
    figures.num_versions = len(versions)
    figures.policies = _join_versions(versions)
    figures.actions = Counter({name: figures.actions[name] for name in figures.game.actions})
    return figures


def _count(figures: Figures, versions: dict[str, Group], table: pa.Table) -> None:
    lengths = table["num_frames"].to_numpy()
    figures.rows += table.num_rows
    figures.frames += int(lengths.sum())
    for column, counter in (("codec", figures.codecs), ("node", figures.nodes), ("run", figures.runs)):
        for value, count in zip(table[column].to_pylist(), lengths.tolist(), strict=True):
            counter[value] += count
    taken = np.bincount(pc.list_flatten(table["actions"]).to_numpy(), minlength=figures.game.num_actions)
    figures.actions.update(dict(zip(figures.game.actions, taken.tolist(), strict=False)))
    for ending in ("terminated", "truncated"):
        figures.endings[ending] += pc.sum(table[ending]).as_py() or 0
    for episode, version, split, level in _episodes(table, lengths):
        figures.episodes += 1
        versions.setdefault(version, Group()).add(episode)
        figures.splits.setdefault(split, Group()).add(episode)
        if level is not None:
            figures.levels.setdefault(level, Group()).add(episode)


def _episodes(table: pa.Table, lengths: np.ndarray) -> Iterator[tuple[Group, str, str, str | None]]:
    """Return every episode with its policy, split and level."""
    rows = pc.list_parent_indices(table["rewards"]).to_numpy()
    earned = np.bincount(rows, pc.list_flatten(table["rewards"]).to_numpy(), minlength=table.num_rows)
    ids, firsts, numbers = np.unique(np.asarray(table["episode"].to_pylist()), return_index=True, return_inverse=True)
    frames = np.bincount(numbers, lengths).astype(int)
    returns = np.bincount(numbers, earned)
    of_first = table.take(firsts)
    levels = of_first[LEVEL].to_pylist() if LEVEL in table.column_names else [None] * len(ids)
    origins = zip(of_first["agent_version"].to_pylist(), of_first["split"].to_pylist(), levels, strict=True)
    for number, (version, split, level) in enumerate(origins):
        group = Group(int(frames[number]), 1, [float(returns[number])])
        yield group, version, split, None if level is None else str(level)


def _join_versions(versions: Mapping[str, Group]) -> dict[str, Group]:
    """Join the many versions of an agent in training, `dqn-400`, `dqn-800`, ... to `dqn-*`."""
    families = Counter(re.sub(r"\d+", "*", version, count=1) for version in versions)
    joined: dict[str, Group] = {}
    for version, group in sorted(versions.items()):
        family = re.sub(r"\d+", "*", version, count=1)
        name = family if families[family] > _FEW_VERSIONS else version
        joined.setdefault(name, Group()).add(group)
    return joined


def text(figures: Figures) -> str:
    """Return the figures as lines for a terminal."""
    game = figures.game
    lines = [
        f"game      {game.name}, {game.width}x{game.height} at {game.frames_per_second:g} frames per second",
        f"frames    {figures.frames:,} in {figures.episodes:,} episodes, {figures.hours:.2f} hours of play",
        f"bytes     {figures.bytes:,} in {figures.shards:,} shards, {figures.bytes_per_frame:,.0f} per frame",
        f"codecs    {_shares(figures.codecs)}",
        f"nodes     {_shares(figures.nodes)}",
        f"runs      {_shares(figures.runs)}",
        f"endings   {figures.endings['terminated']:,} terminated, {figures.endings['truncated']:,} cut",
    ]
    if figures.more_columns:
        lines.append("columns   " + ", ".join(f"{name} ({kind})" for name, kind in figures.more_columns.items()))
    for title, groups in (("policy", figures.policies), ("split", figures.splits), ("level", figures.levels)):
        lines += ["", *_table(title, groups)] if groups else []
    total = max(sum(figures.actions.values()), 1)
    width = max(map(len, figures.actions), default=0)
    lines += ["", "actions"]
    for name, count in figures.actions.items():
        lines.append(f"  {name:<{width}} {count:>12,} {count / total:>6.1%} {'#' * round(40 * count / total)}".rstrip())
    return "\n".join(lines)


def _shares(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,} frames)" for name, count in sorted(counter.items()))


def _table(title: str, groups: Mapping[str, Group]) -> list[str]:
    width = max(len(title), *map(len, groups))
    lines = [f"{title:<{width}} {'frames':>12} {'episodes':>9} {'return: mean':>13} {'min':>10} {'max':>10}"]
    for name, group in sorted(groups.items()):
        row = group.summary()
        returns = f"{row['return_mean']:>13.2f} {row['return_min']:>10.2f} {row['return_max']:>10.2f}"
        lines.append(f"{name:<{width}} {group.frames:>12,} {group.episodes:>9,} {returns}")
    return lines
