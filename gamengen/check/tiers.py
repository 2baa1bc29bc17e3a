"""Checks what a tier needs, each part at work: its game, its agent, its shards and its networks; says what is missing.

Nothing of a real run is touched. The agent learns on the cluster that is set, or on a Ray of this process alone.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gamengen import config as configs
from gamengen.config import Config

if TYPE_CHECKING:
    from gamengen.check.game import Play

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parents[2] / "configs"
TIERS = {  # the run of configs/<run>.yaml -> what it is called
    "tier1_chrome_dino": "Tier 1: Chrome Dino",
    "tier2_doom_lite": "Tier 2: DOOM Lite",
    "tier3_full_doom": "Tier 3: Full DOOM",
}
_EXTRAS = {"vizdoom": "doom", "playwright": "browser"}  # package -> the extra of gamengen that brings it


@dataclass
class Part:
    """What came of one part: what was found, or what is missing and how to get it; one of the two is empty."""

    seconds: float
    found: str = ""
    missing: str = ""


@dataclass
class Tier:
    """A config and what came of its parts; `notes` are no reason not to begin."""

    name: str
    config: str
    parts: dict[str, Part] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return not any(part.missing for part in self.parts.values())

    def lines(self) -> str:
        """Return what a person is told."""
        wrong = [f"    {name}: {part.missing}" for name, part in self.parts.items() if part.missing]
        notes = [f"    note: {note}" for note in self.notes]
        return "\n".join([f"[{'READY' if self.ready else 'MISSING'}] {self.name}", *wrong, *notes])


def check(paths: Sequence[str], overrides: Sequence[str] = ()) -> Iterator[Tier]:
    """Check configs one by one, all tiers where none are given; every one ends in a Tier, none in an exception."""
    for path in paths or [str(FOLDER / f"{run}.yaml") for run in TIERS]:
        tier = Tier(TIERS.get(Path(path).stem, Path(path).stem), path)
        with tempfile.TemporaryDirectory(prefix="gamengen-check-") as scratch:
            config = _try(tier, "config", lambda path=path, scratch=scratch: _load(path, overrides, scratch))
            if config is not None:
                _check(tier, config)
        yield tier


def summary(tiers: Sequence[Tier], seconds: float) -> dict[str, Any]:
    """Return all of it as plain values."""
    told = [{**asdict(tier), "ready": tier.ready} for tier in tiers]
    return {"phase": "check", "ready": all(tier.ready for tier in tiers), "tiers": told, "seconds": round(seconds, 1)}


def _load(path: str, overrides: Sequence[str], scratch: str) -> Config:
    """Load a config into a folder of its own: nothing of a real run is touched."""
    if Path(path).parent == FOLDER and not Path(path).exists():
        raise ValueError(f"configs/{Path(path).name} is not in this version of gamengen. Get a newer one: git pull.")
    return configs.load(path, [*overrides, f"storage={scratch}"])


def _check(tier: Tier, config: Config) -> None:
    """Check the parts of a tier; without its game there is nothing to record, to learn or to model."""
    play = _try(tier, "game", lambda: _play(config))
    if play is not None:
        _try(tier, "agent", lambda: _learn(config))
        _try(tier, "shards", lambda: _round_trip(config, play))
        _try(tier, "model", lambda: _train_step(tier, config, play))


# What a part needs is imported in it: a package that is missing is then that part's finding.


def _play(config: Config) -> Play:
    from gamengen.check import game

    return game.play(config)


def _learn(config: Config) -> str:
    from gamengen.check import agent

    return agent.learn(config)


def _round_trip(config: Config, play: Play) -> str:
    from gamengen.check import game

    return game.round_trip(config, play)


def _train_step(tier: Tier, config: Config, play: Play) -> str:
    from gamengen.check import networks

    if config.train.use_gpu and not networks.has_gpu():
        tier.notes.append("it trains on a GPU (train.use_gpu), and this machine has none: run its jobs where one is.")
    tier.notes += networks.weights_to_get(config)
    return networks.train_step(config, play.game, play.episodes[-1].frames[-1])


def _try(tier: Tier, name: str, work: Callable[[], Any]) -> Any:
    """Do the work of a part; what goes wrong becomes what is missing, and the result None."""
    begun = time.perf_counter()
    result, part = None, Part(0.0)
    try:
        result = work()
        part.found = str(result) if name != "config" else "complete"
    except Exception as error:
        part.missing = _reason(error)
    part.seconds = round(time.perf_counter() - begun, 1)
    tier.parts[name] = part
    logger.info("%s, %s: %s (%.1f s)", tier.name, name, part.found or f"MISSING: {part.missing}", part.seconds)
    return result


def _reason(error: Exception) -> str:
    """Return what is missing and what to do, on one line."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "?").partition(".")[0]
        extra = f"[{_EXTRAS[package]}]" if package in _EXTRAS else ""
        return f"the package {package} is not installed. Get it: make setup, or pip install -e '.{extra}'."
    if isinstance(error, ValueError):
        return " ".join(str(error).split())
    logger.debug("details", exc_info=error)
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[-1] if words else 'no reason given'}"
