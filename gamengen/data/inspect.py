"""Looks at recorded play as a whole: figures, damage, pictures and the card. Writes the card and what it is told to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from gamengen.data import card, figures, pictures, shards
from gamengen.data.check import check
from gamengen.storage import list_files, write_bytes


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found.

    Attributes:
        text: the figures as lines; empty where no shard is whole.
        damages: one line each.
        summary: all of it as plain values, with what was written.
    """

    text: str
    damages: list[str]
    summary: dict[str, Any]


def inspect(
    path: str,
    *,
    quick: bool = False,
    contact_sheet: str | None = None,
    mp4: str | None = None,
    episode: str | None = None,
) -> Inspection:
    """Inspect a run's folder or a folder of shards.

    Every row is read and decoded, unless `quick`. The figures, pictures and the film are those of undamaged shards. The
    card is written beside the folder where nothing is damaged.

    Raises:
        ValueError: no shards, no such episode, or (if `quick`) a file that is no whole shard.
    """
    begun = time.perf_counter()
    folder = _gameplay(path)
    names = list_files(folder, ".parquet")
    damages: list[str] = []
    good, decoded = names, 0
    if quick:
        shards.find(folder)
    else:
        result = check(names)
        good, damages, decoded = result.good, result.damages, result.frames
    checked = time.perf_counter() - begun
    counted = figures.survey(good) if good else None
    made: dict[str, Any] = {}
    if counted is not None:
        if contact_sheet:
            write_bytes(contact_sheet, pictures.contact_sheet(good, counted.game))
            made["contact_sheet"] = contact_sheet
        if mp4:
            made["episode"], data = pictures.episode_film(good, counted.game, episode)
            write_bytes(mp4, data)
            made["mp4"] = mp4
    if counted is not None and not damages:
        written = card.refresh(folder, counted)
        made |= {"card": written} if written else {}
    summary = {"phase": "data", "where": folder, "damaged": len(damages), "frames_decoded": decoded}
    summary |= counted.to_dict() if counted is not None else {}
    summary |= {**made, "frames_decoded_per_second": round(decoded / checked, 1)}
    summary["seconds"] = round(time.perf_counter() - begun, 1)
    return Inspection(figures.text(counted) if counted is not None else "", damages, summary)


def _gameplay(path: str) -> str:
    path = path.rstrip("/")
    for folder in (path, f"{path}/gameplay"):
        if list_files(folder, ".parquet"):
            return folder
    raise ValueError(
        f"no shards in {path} or {path}/gameplay; expected a run's folder or one of *.parquet files. Record play first."
    )
