"""Writes what Prometheus and Grafana read when they start: `cluster/prometheus.yml` and `cluster/grafana/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from gamengen.dashboards import alerts, grafana
from gamengen.dashboards.boards import BOARDS

PROMETHEUS_URL = "http://prometheus:9090"  # the service of that name beside Grafana
SCRAPE_SECONDS = 10  # Ray's own interval: more often shows nothing new
# Ray's head keeps a list of all machines here; mount the head's temporary folder where Prometheus runs.
SERVICE_DISCOVERY = "/tmp/ray/prom_metrics_service_discovery.json"
_HEADER = "# Made by `python -m jobs.dashboards --write cluster`; change gamengen/dashboards instead.\n"


def contents() -> dict[str, str]:
    """Return every file, by its path below `cluster/`."""
    provisioning = "grafana/provisioning"
    files = {
        "prometheus.yml": _yaml(_prometheus()),
        f"{provisioning}/datasources/gamengen.yaml": _yaml(_data_sources()),
        f"{provisioning}/dashboards/gamengen.yaml": _yaml(_providers()),
        f"{provisioning}/alerting/gamengen.yaml": _yaml(alerts.group_file()),
    }
    return files | {f"grafana/dashboards/{board.uid}.json": _json(board.to_json()) for board in BOARDS}


def write(folder: Path) -> list[Path]:
    """Write the files that are not there as they should be; returns them."""
    written = []
    for name, text in contents().items():
        file = folder / name
        if not file.exists() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            written.append(file)
    return written


def _prometheus() -> dict[str, Any]:
    return {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [SERVICE_DISCOVERY]}]}],
    }


def _data_sources() -> dict[str, Any]:
    source = grafana.data_source(PROMETHEUS_URL)
    return {"apiVersion": 1, "datasources": [source | {"orgId": 1, "editable": False}]}


def _providers() -> dict[str, Any]:
    provider = {
        "name": "gamengen",
        "orgId": 1,
        "type": "file",
        "folder": alerts.FOLDER,
        "folderUid": alerts.FOLDER_UID,
        "disableDeletion": True,
        "allowUiUpdates": False,
        "options": {"path": "/var/lib/grafana/dashboards/gamengen"},
    }
    return {"apiVersion": 1, "providers": [provider]}


def _json(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=1) + "\n"


def _yaml(tree: dict[str, Any]) -> str:
    return _HEADER + yaml.dump(tree, Dumper=_NoAnchors, sort_keys=False, width=120)


class _NoAnchors(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
