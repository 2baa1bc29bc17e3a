"""Starts the served game on a Ray cluster, where it outlives the job that started it."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import ray
from ray import serve

from gamengen import ray_cluster, storage
from gamengen.config import Config, ServeConfig
from gamengen.serve import app

logger = logging.getLogger(__name__)

HEALTHY_WITHIN_SECONDS = 60.0


def serve_game(config: Config) -> dict[str, Any]:
    """Serve a run's model as a game; see `serve_model`.

    Raises:
        ValueError: there is no such model, or the game cannot be started with these settings.
    """
    model = f"{config.folder}/{config.serve.model}"
    if not storage.exists(f"{model}/game.json"):  # looked for here, so that this is no replica's traceback
        raise ValueError(
            f"no model to serve, got {model} without a game.json; expected the folder of a trained model. "
            f"Train run {config.run!r} first, or set serve.model, run or storage."
        )
    return serve_model(model, config.serve)


def serve_model(model: str, settings: ServeConfig) -> dict[str, Any]:
    """Serve a model folder as a game that can be played in a browser; `settings.model` plays no part.

    On a cluster the game stays up when this returns (`serve shutdown` ends it); served again, it is replaced. Where
    this had to start a Ray of its own, it waits for Ctrl+C or SIGTERM, then ends the game.

    Raises:
        ValueError: the game cannot be started with these settings.
    """
    started = time.perf_counter()
    application = app.build(
        {
            "model": model,
            "max_players": settings.max_players,
            "max_batch": settings.max_batch,
            "jpeg_quality": settings.jpeg_quality,
            "threads": settings.threads,
            "use_gpu": settings.use_gpu,
            "origins": settings.origins,
            "num_replicas": settings.num_replicas,
        }
    )
    is_local = ray_cluster.connect()
    url = f"http://{'127.0.0.1' if settings.host in ('0.0.0.0', '') else settings.host}:{settings.port}"
    _start_serve(settings.host, settings.port)
    drain()
    _deploy(application)
    described = _wait_until_healthy(url)
    summary = {
        "phase": "serve",
        "url": f"{url}/",
        "model": model,
        "game": described["game"]["name"],
        "warm_step_ms": described["model"]["warm_step_ms"],
        "max_players": settings.max_players * settings.num_replicas,
        "token_required": described["token_required"],
        "detached": not is_local,
        "seconds": round(time.perf_counter() - started, 2),
    }
    logger.info("play at %s/", url)
    if is_local:
        _wait_for_stop()
        shutdown()
    return summary


def drain() -> int:
    """Close the sockets of all players with code 1012, if the game is served here; returns how many there were."""
    if app.APP_NAME not in serve.status().applications:
        return 0
    try:
        return sum(serve.get_app_handle(app.APP_NAME).broadcast("drain").results(timeout_s=10))
    except Exception:  # a game that is broken or half started has no players to say good-bye to
        logger.warning("could not say good-bye to the players", exc_info=True)
        return 0


def shutdown() -> None:
    """Say good-bye to the players and end Serve on this cluster."""
    drain()
    serve.shutdown()


def _start_serve(host: str, port: int) -> None:
    options = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": host, "port": port},
        "logging_config": {"enable_access_log": False},
    }
    try:
        try:
            serve.start(**options)
        except ray.exceptions.RayActorError:
            # On a busy machine: a web server that is not up within five seconds is replaced, with more patience each
            # time, while `start` waits for the first one. Called again, it finds Serve running.
            logger.info("the web server is slow to start; waiting for another one")
            serve.start(**options)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"Serve cannot listen on {host}:{port}: {reason}. Set serve.port to a free one, or end what uses it."
        ) from error


def _deploy(application: serve.Application) -> None:
    try:
        serve.run(application, name=app.APP_NAME, route_prefix="/", logging_config={"enable_access_log": False})
    except RuntimeError as error:
        reason = _failure() or str(error).strip().splitlines()[-1]
        raise ValueError(f"the game could not be started: {reason}") from error


def _failure() -> str | None:
    """Return the last line of what Serve says about our failed deployment: the error that the replica raised."""
    overview = serve.status().applications.get(app.APP_NAME)
    for deployment in overview.deployments.values() if overview else ():
        lines = [line.strip() for line in deployment.message.splitlines() if "Error: " in line]
        if lines:
            return lines[-1]
    return None


def _wait_until_healthy(url: str) -> dict[str, Any]:
    """Wait for the page's server and return what it says about the game."""
    deadline = time.monotonic() + HEALTHY_WITHIN_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(f"{url}/healthz", timeout=5):
                pass
            with opener.open(f"{url}/api/game", timeout=5) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise ValueError(
                    f"the game runs, but nothing good answers at {url}: {error}. If Serve already runs on this cluster "
                    "with another serve.host or serve.port, end it first: serve shutdown."
                ) from error
        time.sleep(0.2)


def _wait_for_stop() -> None:
    """Wait for Ctrl+C or SIGTERM."""
    stopped = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    logger.info("Ctrl+C ends the game")
    try:
        while not stopped.wait(1.0):
            if not ray.is_initialized():
                return
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
