"""Where the token is found, who gets it, and which clusters are refused; real ones are in tests/test_submission.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gamengen import ray_token


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
