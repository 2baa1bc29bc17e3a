"""The Ray Serve application: one engine per replica, the page, and a websocket for each player."""

# Serve copies the routes with cloudpickle when the class below is decorated. So there is no
# `from __future__ import annotations` here, as FastAPI could not resolve annotations that are strings in the copy, and
# what the routes use is defined before the class.

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import torch
from fastapi import FastAPI, Response, WebSocket
from ray import serve
from ray.serve import Application

from gamengen import placement
from gamengen.engine import GameEngine
from gamengen.serve import protocol
from gamengen.serve.admission import Rules
from gamengen.serve.batcher import Batcher
from gamengen.serve.metrics import ServeMetrics
from gamengen.serve.session import Session

logger = logging.getLogger(__name__)

APP_NAME = "gamengen"
MAX_FAILURES_IN_A_ROW = 3  # of the model; then Serve is asked to start a new replica
_SPARE_REQUESTS = 64  # beside the players: page loads, health checks and the players that are turned away

_STATIC = Path(__file__).parent / "static"
_PAGE_FILES = {"index.html": "text/html", "play.js": "text/javascript", "style.css": "text/css"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@dataclass(frozen=True)
class AppSettings:
    """What a replica needs; `max_players` and `max_batch` are for each replica."""

    model: str  # a model folder
    max_players: int
    max_batch: int
    jpeg_quality: int
    threads: int  # CPU threads of the engine; 0 takes every core of the machine
    use_gpu: bool
    origins: tuple[str, ...] = ()  # pages of other hosts that may connect, such as https://example.org
    num_replicas: int = 1

    def __post_init__(self) -> None:
        if min(self.max_players, self.max_batch, self.num_replicas) < 1:
            raise ValueError(f"max_players, max_batch and num_replicas must be at least 1, got {self}.")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality, got {self.jpeg_quality}; expected 1 to 100.")
        if self.threads < 0:
            raise ValueError(f"threads, got {self.threads}; expected 0 (every core) or more.")


def _file(name: str) -> Response:
    if name not in _PAGE_FILES:  # nothing else is ever read, whatever the path says
        return Response("not found", 404, _HEADERS, "text/plain")
    return Response((_STATIC / name).read_bytes(), 200, _HEADERS, _PAGE_FILES[name])


@serve.deployment(
    name="Game",
    health_check_period_s=10,
    graceful_shutdown_timeout_s=5,
    max_constructor_retry_count=1,  # a model that does not load now will not load the third time
)
@serve.ingress(api)
class Game:
    """One replica: an engine, and the players whose sockets it holds for as long as they play."""

    def __init__(self, settings: AppSettings, token: str | None = None) -> None:
        """Load the model and run it once; raises ValueError where the model folder is missing or damaged."""
        self._settings = settings
        self._rules = Rules(settings.max_players, settings.origins, token)
        self._draining = False
        self._sessions: set[Session] = set()
        engine = GameEngine.from_pretrained(settings.model, device="cuda" if settings.use_gpu else "cpu")
        self._game = engine.game.unpadded()  # the engine's frames have no padding, so players need not know of any
        self._metrics = ServeMetrics(engine.game.name)
        self._batcher = Batcher(
            engine,
            max_batch=min(settings.max_batch, settings.max_players),
            jpeg_quality=settings.jpeg_quality,
            initializer=self._set_threads,
            observe=self._metrics.observe,
        )
        seconds = self._batcher.warm_up()
        folder = Path(settings.model)
        self._model = {
            "name": f"{folder.parent.name}/{folder.name}",
            "place": protocol.place(settings.model),
            "num_starts": engine.num_starts,
            "warm_step_ms": round(seconds * 1e3, 2),
        }
        logger.info("%s ready: %.1f ms a frame", self._model["name"], seconds * 1e3)

    def _set_threads(self) -> None:
        # Ray sets OMP_NUM_THREADS to the actor's logical CPUs, which says nothing about the cores we may use.
        torch.set_num_threads(self._settings.threads or len(os.sched_getaffinity(0)))

    @api.get("/healthz")
    async def healthz(self, response: Response) -> dict[str, str]:
        """Answer 200 when players are welcome."""
        if self._draining:
            response.status_code = 503
        return {"status": "draining" if self._draining else "ok"}

    @api.get("/api/game")
    async def describe(self) -> dict[str, Any]:
        """Return the game, the model, and how many play."""
        return {
            "protocol": protocol.PROTOCOL_VERSION,
            "game": dataclasses.asdict(self._game),
            "model": self._model,
            "players": len(self._sessions),
            "limits": {
                "max_players": self._settings.max_players,
                "max_batch": self._settings.max_batch,
                "max_message_bytes": protocol.MAX_MESSAGE_BYTES,
            },
            "token_required": self._rules.token is not None,
        }

    @api.get("/")
    async def page(self) -> Response:
        """Return the page."""
        return _file("index.html")

    @api.get("/static/{name}")
    async def static(self, name: str) -> Response:
        """Return one of the page's files."""
        return _file(name)

    @api.websocket("/play")
    async def play(self, socket: WebSocket) -> None:
        """Play with one player until they leave."""
        await socket.accept()  # even to refuse: a close before this reaches the browser as a bare HTTP 403
        refusal = self._rules.refusal(
            origin=socket.headers.get("origin"),
            host=socket.headers.get("host"),
            token=socket.query_params.get("token"),
            num_players=len(self._sessions),
            is_draining=self._draining,
        )
        if refusal:
            self._metrics.refused()
            await socket.close(*refusal)
            return
        session = Session(socket, self._batcher, self._game, self._model)
        self._sessions.add(session)
        self._metrics.players(len(self._sessions))
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            self._metrics.players(len(self._sessions))
            self._metrics.left(session.num_skipped)

    async def drain(self) -> int:
        """Send every player away and admit no more; returns how many there were. Called before the app goes away."""
        self._draining = True
        sessions = list(self._sessions)
        for session in sessions:
            await session.end(protocol.CLOSE_RESTART, "the server restarts; connect again")
        return len(sessions)

    def check_health(self) -> None:
        """Ask Serve for a new replica when the model does nothing but fail."""
        if self._batcher.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise RuntimeError(f"the model failed {self._batcher.failures_in_a_row} times in a row")


def build(args: dict[str, Any]) -> Application:
    """Build the application from the settings of `AppSettings`; what `import_path: gamengen.serve.app:build` calls.

    The token that players must give is the environment variable GAMENGEN_PLAY_TOKEN of the process that builds.

    Raises:
        ValueError: an unknown or missing setting, or a bad value.
    """
    known = [field.name for field in dataclasses.fields(AppSettings)]
    if unknown := set(args) - set(known):
        raise ValueError(f"unknown settings, got {sorted(unknown)}; expected some of {', '.join(known)}.")
    try:
        settings = pydantic.TypeAdapter(AppSettings).validate_python(args)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"serve setting {key}: {first['msg']}, got {first['input']!r}.") from None
    deployment = Game.options(
        num_replicas=settings.num_replicas,
        max_ongoing_requests=settings.max_players + _SPARE_REQUESTS,
        ray_actor_options={"num_cpus": 1, "num_gpus": int(settings.use_gpu), **placement.options(placement.SERVE)},
    )
    return deployment.bind(settings, os.environ.get(protocol.TOKEN_VARIABLE) or None)
