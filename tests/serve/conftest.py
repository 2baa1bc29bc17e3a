"""One served game for all tests that need it: real Ray, real Serve, a real (untrained) model."""

from __future__ import annotations

import dataclasses
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serve.fakes import MAX_PLAYERS


def elsewhere(work, *arguments):
    """Run in a thread of its own: Playwright keeps an event loop running in this one, which Serve does not like."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments).result()


@pytest.fixture(scope="session")
def serve_config(made):
    """The Config of a run with an untrained denoiser, to be served on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = dataclasses.replace(
        made.serve,
        model="denoiser",
        host="127.0.0.1",
        port=port,
        origins=("https://friend.example",),
        max_players=MAX_PLAYERS,
        max_batch=2,
    )
    return dataclasses.replace(made, serve=serve)


@pytest.fixture
def served_doom(served, serve_config, made_doom):
    """The summary of a game of DOOM, which is up in place of the other one."""
    from gamengen.serve import launch

    yield elsewhere(launch.serve_game, dataclasses.replace(made_doom, serve=serve_config.serve))
    elsewhere(launch.serve_game, serve_config)


@pytest.fixture(scope="session")
def served(serve_config, ray_cluster):
    """The summary of a game that is up."""
    from gamengen.serve import launch

    yield launch.serve_game(serve_config)
    launch.shutdown()
