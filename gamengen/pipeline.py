"""Runs a whole run: every phase in its order, each as a Ray job, each skipped where what it would do is done."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamengen import config as configs
from gamengen import storage
from gamengen.config import Config
from gamengen.serve import protocol
from gamengen.submission import Cluster, PhaseFailed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """One job of a run.

    Attributes:
        name: as in `summary-<name>.json`.
        module: of `jobs`.
        settings: the sections of the config, beside those of the phases before it, on which its result depends.
        made: a path in the run's folder that is there when it is done.
        arguments: further ones of its command line.
    """

    name: str
    module: str
    settings: tuple[str, ...]
    made: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.name.removeprefix("train-")


def _stage(name: str, folder: str, *settings: str) -> Phase:
    return Phase(f"train-{name}", "train", (f"train.{name}", *settings), f"{folder}/game.json", (f"stage={name}",))


PHASES = (
    Phase("train_agent", "train_agent", ("run", "seed", "game", "agent", "collect"), "agent/agent.json"),
    Phase("collect", "collect", (), "gameplay"),
    _stage("autoencoder", "autoencoder", "autoencoder", "train.num_lanes"),
    Phase("encode", "encode", (), "latents"),
    _stage("denoiser", "denoiser", "denoiser", "diffusion", "sampler"),
    _stage("distill", "distilled", "fast_sampler"),
    _stage("decoder", "decoder"),
    Phase("evaluate", "evaluate", ("evaluate",), "summary-evaluate.json"),
    Phase("serve", "serve", ("serve",)),
)


def phases(config: Config) -> tuple[Phase, ...]:
    """Return the phases of a run: nobody learns to play where recordings are imported, and a decoder is tuned where the
    stage has steps."""
    left_out = {
        "train_agent": config.collect.import_folder is not None,
        "train-decoder": not config.train.decoder.steps,
    }
    return tuple(phase for phase in PHASES if not left_out.get(phase.name))


class Ledger:
    """What `pipeline.json` of a run remembers: with which settings each phase was finished, and with what result."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.uri = f"{config.folder}/pipeline.json"
        try:
            self.entries: dict[str, dict[str, str]] = storage.read_json(self.uri)
        except (FileNotFoundError, json.JSONDecodeError):
            self.entries = {}

    def is_done(self, phase: Phase, place: str) -> bool:
        """Whether the phase's summary is still the one that was written with these settings (and at this cluster)."""
        if phase.made and not storage.exists(f"{self.config.folder}/{phase.made}"):
            return False
        entry = self._entry(phase, place)
        return entry["summary"] != "" and self.entries.get(phase.name) == entry

    def note(self, phase: Phase, place: str) -> None:
        self.entries[phase.name] = self._entry(phase, place)
        storage.write_json(self.uri, self.entries)

    def summary(self, phase: Phase) -> dict[str, Any]:
        """Return what the phase wrote last; empty if nothing."""
        try:
            return storage.read_json(self._summary_uri(phase))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def _entry(self, phase: Phase, place: str) -> dict[str, str]:
        try:
            written = hashlib.sha256(storage.read_bytes(self._summary_uri(phase))).hexdigest()
        except FileNotFoundError:
            written = ""
        settings = signature(self.config, phase)
        return {"settings": settings, "summary": written, "place": "" if phase.made else place}

    def _summary_uri(self, phase: Phase) -> str:
        return f"{self.config.folder}/summary-{phase.name}.json"


def signature(config: Config, phase: Phase) -> str:
    """Return a hash of all settings that a phase's result depends on: its own and those of the phases before it."""
    tree = configs.to_dict(config)
    relevant: dict[str, Any] = {}
    for earlier in PHASES[: PHASES.index(phase) + 1]:
        for key in earlier.settings:
            section, _, part = key.partition(".")
            relevant[key] = tree[section][part] if part else tree[section]
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def run(config_path: str, overrides: list[str], cluster: Cluster) -> dict[str, Any]:
    """Run what is left of a run and return the pipeline's summary.

    Raises:
        ValueError: a mistake in the config, or a token for the players that would not reach the game.
        PhaseFailed: a phase failed; has its exit status and its one line.
    """
    config = configs.load(config_path, overrides)
    cluster.check_inherited(protocol.TOKEN_VARIABLE)  # now, not when the game is open to everybody
    ledger, begun, seconds = Ledger(config), time.perf_counter(), {}
    must_run = False  # what follows a phase that did something may have something to do
    for number, phase in enumerate(phases(config), start=1):
        title = f"[{number}/{len(phases(config))} {phase.label}]"
        if not must_run and ledger.is_done(phase, cluster.address) and _still_there(phase, ledger):
            logger.info("%s done before, nothing left to do", title)
            seconds[phase.name] = 0.0
            continue
        must_run, started = True, time.perf_counter()
        logger.info("%s starts, %s since the beginning", title, _clock(started - begun))
        arguments = ["--config", config_path, *phase.arguments, *overrides]
        log = None if "://" in config.storage else Path(config.folder) / "logs" / f"{phase.name}.log"
        cluster.run(phase.label, f"jobs.{phase.module}", arguments, log)
        if not ledger.summary(phase):
            raise PhaseFailed(phase.label, 1, f"it ended well but left no summary-{phase.name}.json in {config.folder}")
        ledger.note(phase, cluster.address)
        seconds[phase.name] = round(time.perf_counter() - started, 1)
        logger.info("%s done in %s", title, _clock(seconds[phase.name]))
    scores = ledger.summary(PHASES[-2])
    summary = {
        "phase": "pipeline",
        "run": config.run,
        "where": config.folder,
        "report": scores.get("report", f"{config.folder}/evaluation/report.html"),
        "url": ledger.summary(PHASES[-1])["url"],
        "phases": seconds,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    storage.write_json(f"{config.folder}/summary-pipeline.json", summary)
    return summary


_ON_THE_PAGE = ("fast", "real", "seconds", "reasons", "intervals", "tables", "decoder")  # and only there


def table(scores: dict[str, Any]) -> str:
    """Return the figures of `summary-evaluate.json` as lines of text: the normal mode beside the fast one."""
    fast = _figures(scores.get("fast") or {})
    rows = [("", "normal", "fast"), *((name, value, fast.get(name)) for name, value in _figures(scores).items())]
    return "\n".join(f"  {name:<32}{_figure(normal):>10}{_figure(quick):>10}" for name, normal, quick in rows)


def _figures(scores: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a summary by their names, those of groups as "group name"."""
    found: dict[str, Any] = {}
    for key, value in scores.items():
        if key not in _ON_THE_PAGE and isinstance(value, dict):
            found |= {f"{key} {part}": figure for part, figure in _figures(value).items()}
        elif key not in _ON_THE_PAGE and isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = value
    return found


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _still_there(phase: Phase, ledger: Ledger) -> bool:
    """Whether a phase that is done has left something that still works: for `serve`, this game and not another."""
    if phase.made:
        return True
    opener, summary = urllib.request.build_opener(urllib.request.ProxyHandler({})), ledger.summary(phase)
    try:
        with opener.open(f"{summary['url'].rstrip('/')}/api/game", timeout=5) as answer:
            return json.load(answer)["model"]["place"] == protocol.place(summary["model"])
    except (OSError, KeyError, ValueError):
        return False
