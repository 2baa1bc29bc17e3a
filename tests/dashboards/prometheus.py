"""A real Prometheus that scrapes a Ray head, with our own settings, and answers the dashboards' queries."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

INSTALLED = shutil.which("prometheus") is not None


class Prometheus:
    """Runs from its making until `close`."""

    def __init__(self, discovery: Path, folder: Path) -> None:
        """Scrape what Ray writes into `discovery`."""
        settings = yaml.safe_load((ROOT / "cluster/prometheus.yml").read_text())
        settings["global"] = {"scrape_interval": "2s"}
        settings["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(discovery)], "refresh_interval": "2s"}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self._process = subprocess.Popen(
            [
                *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
                *(f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=error"),
            ],
            stdout=subprocess.DEVNULL,
        )
        self._began = time.time()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def curves(self, query: str) -> list[dict[str, Any]]:
        """Return the series of a dashboard's query since this runs, with `values`: [time, text]."""
        for name, value in {"$__rate_interval": "1m", "$run": ".*", "$game": ".*"}.items():
            query = query.replace(name, value)
        span = {"query": query, "start": self._began, "end": time.time(), "step": "5"}
        with urllib.request.urlopen(
            f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(span)}", timeout=20
        ) as answer:
            return json.load(answer)["data"]["result"]

    def dashboards(self) -> list[Shown]:
        """Return what every query of every panel of the dashboards in cluster/ has shown since this runs."""
        shown = []
        for file in sorted((ROOT / "cluster/grafana/dashboards").glob("*.json")):
            board = json.loads(file.read_text())
            for panel in board["panels"]:
                for target in panel["targets"]:
                    query = target["expr"]
                    name = (board["title"].removeprefix("gamengen: "), panel["title"], target["legendFormat"])
                    shown.append(Shown(*name, query, self.curves(query)))
        return shown


@dataclass(frozen=True)
class Shown:
    """What one query of a panel has shown."""

    board: str
    panel: str
    legend: str
    query: str
    curves: list[dict[str, Any]]

    @property
    def numbers(self) -> list[float]:
        """All numbers of its series; what could not be divided is none."""
        values = (float(text) for curve in self.curves for _, text in curve["values"])
        return [value for value in values if math.isfinite(value)]

    def __str__(self) -> str:
        return f"| {self.board} | {self.panel}: {self.legend} | {len(self.curves)} | {max(self.numbers, default='-')} |"
