"""The paper's tables: a model played in other ways, and other models, on the same moments. One table is one function.

Every row goes through the loops of `pixels`: the next frame after recorded pasts, and where it is about drift, the PSNR
of farther frames. Rows are shared out over the workers by their moments, as everything else is.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gamengen import storage
from gamengen.config import Config, TablesConfig
from gamengen.engine import GameEngine
from gamengen.evaluate import pixels, statistics
from gamengen.evaluate.held_out import Start
from gamengen.evaluate.judges import Judges, Scores
from gamengen.models.sampler import Sampler


@dataclass(frozen=True)
class Row:
    """A model and how it is played; None leaves it as the model has it.

    Attributes:
        model: the model's folder; "" is the run's own denoiser.
        num_steps: DDIM steps.
        context_length: frames of the past that it is given.
        noise_level: Gaussian noise added to the context at inference.
    """

    model: str = ""
    num_steps: int | None = None
    context_length: int | None = None
    noise_level: float | None = None


AS_IT_IS = Row()
Table = dict[str, Row]  # a row's label -> the row


def sampling_steps(settings: TablesConfig) -> Table:
    """GameNGen's Table 1: the next frame by the number of DDIM steps, evenly spaced from the model's first timestep."""
    return {f"{number} steps": Row(num_steps=number) for number in settings.sampling_steps}


def context_lengths(settings: TablesConfig) -> Table:
    """GameNGen's Table 2, of one model: it is given a part of its context, the rest is padded as at an episode's start.

    The paper trained a model for each length; such models are compared by `models`.
    """
    return {f"{length} frames": Row(context_length=length) for length in settings.context_lengths}


def noise_levels(settings: TablesConfig) -> Table:
    """How quality drifts by the noise that is added to the context at inference (section 3.2.1)."""
    return {f"noise {level:g}": Row(noise_level=level) for level in settings.noise_levels}


def models(settings: TablesConfig) -> Table:
    """Other models on the same moments: of another context, without noise augmentation, or trained on other play."""
    return {label: Row(model=folder) for label, folder in settings.models.items()}


TABLES: Mapping[str, Callable[[TablesConfig], Table]] = {
    "sampling_steps": sampling_steps,
    "context_lengths": context_lengths,
    "noise_levels": noise_levels,
    "models": models,
}
_DRIFT = ("noise_levels", "models")  # tables with a curve over the horizons


def wanted(settings: TablesConfig) -> dict[str, Table]:
    """Return the tables that have rows; the model as it is stands first in each."""
    made = {name: table(settings) for name, table in TABLES.items()}
    return {name: {"as it is": AS_IT_IS, **rows} for name, rows in made.items() if rows}


@dataclass
class RowFigures:
    """What was measured of a row: per window [N], and per start and horizon [N', horizons] (N' = 0: no curve)."""

    next_frame: Scores
    copy_last: Scores
    ceiling: Scores
    horizons: Scores
    hold: Scores


def measure(config: Config, windows: Sequence[Start], starts: Sequence[Start], judges: Judges) -> dict[Row, RowFigures]:
    """Measure every row of every table on a worker's share of the moments.

    Raises:
        ValueError: a model that is missing or of another game, or more steps than there are timesteps.
    """
    tables, horizons, size = wanted(config.evaluate.tables), config.evaluate.horizons, config.evaluate.batch_size
    judges = dataclasses.replace(judges, videos=None)
    curved = {row for name in _DRIFT for row in tables.get(name, {}).values()}
    rows = dict.fromkeys(row for table in tables.values() for row in table.values())
    figures: dict[Row, RowFigures] = {}
    known: dict[str, pixels.Baselines] = {}  # by autoencoder
    for folder in dict.fromkeys(row.model for row in rows):
        place = folder or f"{config.folder}/denoiser"
        engine = _engine(config, place)
        code = hashlib.sha256(storage.read_bytes(f"{place}/autoencoder/model.safetensors")).hexdigest()
        if code not in known:
            known[code] = pixels.baselines(engine, windows, starts if curved else [], horizons, judges, size)
        for row in (row for row in rows if row.model == folder):
            figures[row] = _measure(config, engine, row, windows, starts if row in curved else [], judges, known[code])
    return {row: figures[row] for row in rows}


def _engine(config: Config, place: str) -> GameEngine:
    engine = GameEngine.from_pretrained(place, device="cuda" if config.evaluate.use_gpu else "cpu")
    game = config.game_spec()
    if engine.game != game:
        raise ValueError(
            f"the model {place} in evaluate.tables.models is of {engine.game.name} at {engine.game.width}x"
            f"{engine.game.height}; expected the run's game, {game.name} at {game.width}x{game.height}."
        )
    return engine


def _measure(
    config: Config,
    engine: GameEngine,
    row: Row,
    windows: Sequence[Start],
    starts: Sequence[Start],
    judges: Judges,
    base: pixels.Baselines,
) -> RowFigures:
    horizons, size = config.evaluate.horizons, config.evaluate.batch_size
    name = ", ".join(f"{key} {value}" for key, value in vars(row).items() if value not in (None, "")) or "as it is"
    engine = GameEngine(engine.model, device=str(engine.device), sampler=played(engine.sampler, row))
    frame = pixels.next_frame(engine, windows, judges, size, context_length=row.context_length, name=name)
    if starts:
        curve, hold = pixels.by_horizon(engine, starts, horizons, judges, size, name=name).scores, base.hold
    else:
        curve = hold = _no_scores(config)
    return RowFigures(frame.scores, base.copy_last, base.ceiling, curve, hold)


def _no_scores(config: Config) -> Scores:
    return Scores(*(np.zeros((0, len(config.evaluate.horizons))) for _ in Scores.__dataclass_fields__))


def played(sampler: Sampler, row: Row) -> Sampler:
    """Return the sampler that plays as a row says."""
    if row.noise_level is not None:
        sampler = dataclasses.replace(sampler, noise_level=row.noise_level)
    if row.num_steps is not None:
        count = sampler.timesteps[0] + 1
        steps = tuple(round(count - index * count / row.num_steps) - 1 for index in range(row.num_steps))
        sampler = dataclasses.replace(sampler, timesteps=steps, noise_scales=())
    return sampler


def figures_of(config: Config, measured: Mapping[Row, RowFigures]) -> dict[str, list[dict[str, Any]]]:
    """Return the tables as they stand in the summary: rows of figures with their baselines and intervals."""
    none = _no_scores(config)
    result = {}
    for name, table in wanted(config.evaluate.tables).items():
        figures = {label: measured[row] for label, row in table.items()}
        if name not in _DRIFT:  # the model as it is may have a curve, for another table
            figures = {label: dataclasses.replace(row, horizons=none, hold=none) for label, row in figures.items()}
        result[name] = [row_of(config, label, row) for label, row in figures.items()]
    return result


def row_of(config: Config, label: str, figures: RowFigures) -> dict[str, Any]:
    """Return a row of figures."""
    columns = {"": figures.next_frame, "_copy_last": figures.copy_last, "_ceiling": figures.ceiling}
    means, intervals = statistics.of_scores(columns)
    row = {"label": label, **means, "num_windows": len(figures.next_frame.psnr)}
    row["num_starts"] = len(figures.horizons.psnr)
    for key, scores in (("psnr_by_horizon", figures.horizons), ("psnr_hold_by_horizon", figures.hold)):
        row[key] = statistics.by_horizon(config.evaluate.horizons, scores.psnr, statistics.mean)
        intervals[key] = statistics.by_horizon(config.evaluate.horizons, scores.psnr, statistics.interval)
    return {**row, "intervals": intervals}
