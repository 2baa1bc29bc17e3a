"""Where the token is found, who gets it, and which clusters are refused; real ones are in tests/test_submission.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gamengen import ray_token
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _no_token_of_this_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def open_cluster() -> Iterator[tuple[str, list[str | None]]]:
    """A server that takes everything, and the tokens that it was sent."""
    sent: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    server.server_close()


def test_a_cluster_that_asks_for_no_token_is_refused_and_gets_none(open_cluster, monkeypatch) -> None:
    address, sent = open_cluster
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    with pytest.raises(ValueError, match="takes jobs without a token") as refused:
        ray_token.headers(address, required=True)
    assert "RAY_AUTH_MODE=disabled" in str(refused.value)
    assert ray_token.headers(address) == {}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert ray_token.headers(address, required=True) == {}
    assert sent == [None] * 3


def test_the_token_is_where_ray_looks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ray_token.find() == ""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("default\n")
    assert ray_token.find() == "default"
    written = ray_token.write(tmp_path / "token")
    assert len(written) == 64 and (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert ray_token.write(tmp_path / "token") != written  # a new one at every start
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert ray_token.find() == (tmp_path / "token").read_text()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "first")
    assert ray_token.find() == "first"


_ALONE = """
import json, os, subprocess, sys, ray
from gamengen import ray_cluster

def settings():
    return [os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN")]

def stranger():  # another process, which knows the address alone
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    env["RAY_AUTH_MODE"] = "disabled"
    address = ray.get_runtime_context().gcs_address
    code = f"import ray; from ray._raylet import GcsClient; print(len(GcsClient({address!r}).get_all_node_info()))"
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    return [ended.returncode, ended.stdout.strip(), ended.stderr]

is_local = ray_cluster.connect()
mode, path, token = settings()
kept = os.path.exists(path or "") and [os.stat(path).st_mode & 0o777, os.stat(os.path.dirname(path)).st_mode & 0o777]
task = ray.get(ray.remote(settings).remote())
print(json.dumps({"local": is_local, "here": settings(), "task": task, "kept": kept, "stranger": stranger()}))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["", "disabled"])
def test_a_ray_of_a_process_alone_has_a_token_of_its_own(mode: str, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    env |= {"RAY_AUTH_MODE": mode} if mode else {"RAY_AUTH_TOKEN": "another cluster's"}
    ended = subprocess.run(
        [sys.executable, "-c", _ALONE], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["local"] and said["task"] == said["here"]
    status, nodes, errors = said["stranger"]
    if mode:  # as its user wants it
        assert said["here"] == ["disabled", None, None] and (status, nodes) == (0, "1"), errors
        return
    (mode, path, token), kept = said["here"], said["kept"]
    assert (mode, token, kept) == ("token", None, [0o600, 0o700])
    assert status != 0 and "nauthenticated" in errors
    assert not Path(path).parent.exists()  # gone with the process
