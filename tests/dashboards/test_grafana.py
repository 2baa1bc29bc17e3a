"""Putting dashboards into Grafana, against a strict stub of its API: once is enough, and edits are undone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gamengen.dashboards import alerts, grafana
from gamengen.dashboards.boards import BOARDS
from tests.conftest import ROOT
from tests.dashboards.stub import PASSWORD, TOKEN, USER, StubGrafana

PROMETHEUS = "http://prometheus:9090"
BOARD_NAMES = [board.uid for board in BOARDS]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubGrafana]:
    for name in (grafana.TOKEN, grafana.USER, grafana.PASSWORD):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    stub = StubGrafana()
    yield stub
    stub.close()
    assert stub.stray == []


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(grafana.TOKEN, TOKEN)


def push(stub: StubGrafana, prometheus_url: str = PROMETHEUS) -> list[str]:
    stub.writes.clear()
    return grafana.push(stub.url, prometheus_url)["written"]


def test_all_is_put_once(stub: StubGrafana, token: None) -> None:
    assert push(stub) == ["data source", "folder", *BOARD_NAMES, "alerts"]
    assert sorted(stub.boards) == sorted(BOARD_NAMES) and len(stub.writes) == 3 + len(BOARDS)
    (source,) = stub.sources.values()
    assert source["url"] == PROMETHEUS and source["type"] == "prometheus"
    (group,) = stub.groups.values()
    assert [rule["title"] for rule in group["rules"]] == [alert.title for alert in alerts.ALERTS]
    assert push(stub) == [] and stub.writes == []


def _rename(stub: StubGrafana) -> None:
    stub.boards["gamengen-serving"]["dashboard"]["panels"][0]["title"] = "mine"


def _drop_panel(stub: StubGrafana) -> None:
    stub.boards["gamengen-training"]["dashboard"]["panels"].pop()


def _move(stub: StubGrafana) -> None:
    stub.boards["gamengen-overview"]["meta"]["folderUid"] = ""


def _soften(stub: StubGrafana) -> None:
    stub.groups["gamengen", "gamengen"]["rules"][0]["for"] = "9h"


def _drop_rule(stub: StubGrafana) -> None:
    stub.groups["gamengen", "gamengen"]["rules"].pop()


def _rename_folder(stub: StubGrafana) -> None:
    stub.folders["gamengen"]["title"] = "other"


@pytest.mark.parametrize(
    ("edit", "written"),
    [
        (_rename, "gamengen-serving"),
        (_drop_panel, "gamengen-training"),
        (_move, "gamengen-overview"),
        (_soften, "alerts"),
        (_drop_rule, "alerts"),
        (_rename_folder, "folder"),
    ],
)
def test_what_differs_is_put_back_and_nothing_else(stub: StubGrafana, token: None, edit, written: str) -> None:
    push(stub)
    edit(stub)
    assert push(stub) == [written] and len(stub.writes) == 1
    assert push(stub) == []


def test_prometheus_moves(stub: StubGrafana, token: None) -> None:
    push(stub)
    assert push(stub, "http://elsewhere:9090") == ["data source"]
    assert stub.sources["gamengen-prometheus"]["url"] == "http://elsewhere:9090"


def test_a_password_or_files_do_as_well(stub: StubGrafana, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(grafana.USER, USER)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    monkeypatch.setenv(f"{grafana.PASSWORD}_FILE", str(tmp_path / "password"))
    assert push(stub)
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv(f"{grafana.TOKEN}_FILE", str(tmp_path / "token"))
    assert push(stub) == []
    monkeypatch.setenv(f"{grafana.TOKEN}_FILE", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"GRAFANA_TOKEN_FILE, got .*nothing, which cannot be read"):
        push(stub)


def test_a_user_s_mistakes_are_one_line_without_the_secret(stub: StubGrafana, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="nothing says who we are to Grafana; expected GRAFANA_TOKEN"):
        push(stub)
    monkeypatch.setenv(grafana.TOKEN, "a-wrong-secret")
    with pytest.raises(ValueError, match="refused: Unauthorized") as refused:
        push(stub)
    assert stub.writes == [] and "secret" not in str(refused.value)
    with pytest.raises(ValueError, match=r"no Grafana answers at http://127\.0\.0\.1:9"):
        grafana.push("http://127.0.0.1:9", PROMETHEUS)
    for url in ("127.0.0.1:3000", "http://admin:secret@127.0.0.1:3000"):
        with pytest.raises(ValueError, match="Grafana's URL"):
            grafana.push(url, PROMETHEUS)


def test_the_job(stub: StubGrafana, token: None) -> None:
    command = [sys.executable, "-m", "jobs.dashboards", "--url", stub.url]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)["written"]) == 3 + len(BOARDS)
    ended = subprocess.run([*command, "--url", "nowhere"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stderr.startswith("error: Grafana's URL, got 'nowhere'")
