"""The provisioning files are what the one description says, and it speaks of every metric."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gamengen import monitor
from gamengen.dashboards import alerts, files
from gamengen.dashboards.boards import BOARDS
from tests.conftest import ROOT

QUERIES = [query for board in BOARDS for panel in board.panels for query in panel.queries.values()]
QUERIES += [alert.query for alert in alerts.ALERTS]


def test_the_files_are_up_to_date() -> None:
    found = {path: (ROOT / "cluster" / path) for path in files.contents()}
    stale = [
        path for path, text in files.contents().items() if not found[path].exists() or found[path].read_text() != text
    ]
    assert stale == [], "run python -m jobs.dashboards --write cluster"
    made = {str(file.relative_to(ROOT / "cluster")) for file in (ROOT / "cluster/grafana").rglob("*.*")} - {
        "grafana/README.md"
    }
    assert made <= set(found), "a file that nothing makes"


def test_written_again_nothing_changes(tmp_path: Path) -> None:
    assert len(files.write(tmp_path)) == len(files.contents())
    assert files.write(tmp_path) == []
    (tmp_path / "prometheus.yml").write_text("")
    assert files.write(tmp_path) == [tmp_path / "prometheus.yml"]


def test_every_metric_is_shown_and_every_shown_metric_is_there() -> None:
    named = set(re.findall(r"ray_gamengen_\w+", " ".join(QUERIES)))
    known = {metric.series for metric in monitor.ALL.values()}
    known |= {series.removesuffix("_bucket") + end for series in known for end in ("_sum", "_count")}
    assert named <= known
    assert {metric.series.removesuffix("_bucket") for metric in monitor.ALL.values()} <= {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in named
    }


def test_boards_fill_their_rows_and_nothing_overlaps() -> None:
    for board in BOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in board.to_json()["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
            assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
            taken |= cells


def test_nothing_in_the_files_is_taken_for_a_variable_or_a_secret() -> None:
    for path, text in files.contents().items():
        assert "assword" not in text and "oken" not in text, path
        if path.endswith(".yaml"):
            assert "$" not in text, "Grafana puts environment variables in"
            assert yaml.safe_load(text)["apiVersion"] == 1
        elif path.endswith(".json"):
            assert json.loads(text)["uid"] in path


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs Prometheus (Debian: apt-get install prometheus)")
def test_prometheus_takes_its_file_and_every_query(tmp_path: Path) -> None:
    subprocess.run(["promtool", "check", "config", ROOT / "cluster/prometheus.yml"], check=True, capture_output=True)
    plain = [query.replace("$__rate_interval", "1m").replace("$run", ".*").replace("$game", ".*") for query in QUERIES]
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(plain)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
