"""Tables of the same model on parts of the held-out play: by who played, and on maps that were learnt from or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gamengen.config import Config
from gamengen.data.shards import Episode
from gamengen.evaluate import tables
from gamengen.evaluate.held_out import Start
from gamengen.evaluate.judges import Scores
from gamengen.evaluate.tables import RowFigures

_NOT_AGENTS = ("random", "resting", "scripted", "imported")  # what else `agent_version` says


@dataclass
class Groups:
    """To which part every window and every start belongs, as labels [N]; "" where a game has no levels.

    Attributes:
        players: "random", "resting", "scripted", "imported", or "agent" in any of its versions.
        maps: "seen" or "unseen": whether there was training on the level (the game's `held_out` levels are never).
    """

    players: np.ndarray
    maps: np.ndarray
    start_players: np.ndarray
    start_maps: np.ndarray

    @classmethod
    def of(cls, config: Config, windows: Sequence[Start], starts: Sequence[Start]) -> Groups:
        """Label moments."""
        unseen = config.game.options.get("held_out", ())

        def labels(label: Any, moments: Sequence[Start]) -> np.ndarray:
            return np.array([label(moment.episode) for moment in moments], dtype="U16")

        def maps(episode: Episode) -> str:
            return "" if episode.level is None else "unseen" if episode.level in unseen else "seen"

        return cls(labels(player_of, windows), labels(maps, windows), labels(player_of, starts), labels(maps, starts))

    def figures_of(self, config: Config, figures: RowFigures) -> dict[str, list[dict[str, Any]]]:
        """Return a table for each way to part the play that makes more than one part."""
        result = {}
        for name in ("players", "maps"):
            labels, start_labels = getattr(self, name), getattr(self, f"start_{name}")
            rows = []
            for label in sorted(set(labels.tolist()) - {""}):
                windows = (figures.next_frame, figures.copy_last, figures.ceiling)
                starts = (figures.horizons, figures.hold)
                picked = [_pick(part, labels == label) for part in windows]
                picked += [_pick(part, start_labels == label) for part in starts]
                rows.append(tables.row_of(config, label, RowFigures(*picked)))
            if len(rows) > 1:
                result[name] = rows
        return result


def player_of(episode: Episode) -> str:
    """Return who played an episode: an agent of any version counts as one."""
    kind = episode.agent_version.partition(":")[0]
    return kind if kind in _NOT_AGENTS else "agent"


def _pick(scores: Scores, chosen: np.ndarray) -> Scores:
    return Scores(*(values[chosen] for values in vars(scores).values()))
