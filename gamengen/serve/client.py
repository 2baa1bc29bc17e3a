"""Plays a served game from Python, frame by frame or in real time: for bots, tests and measurements."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import numpy as np
import websockets
from PIL import Image
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket

from gamengen.game import GameSpec
from gamengen.serve import protocol

OPEN_SECONDS = 10.0


@dataclass(frozen=True)
class Frame:
    """A frame of the game, and how it came about."""

    image: np.ndarray  # uint8 RGB [H, W, 3]
    number: int
    action: int
    is_start: bool
    model_seconds: float


class RemoteGame:
    """A game on a server, played in lock-step, where it stands still between two steps, or in real time."""

    def __init__(self, socket: ClientConnection, hello: dict[str, Any], first: Frame) -> None:
        self._socket = socket
        self.spec = GameSpec(**hello["game"])
        self.model: dict[str, Any] = hello["model"]
        self.frame = first

    async def step(self, action: str) -> Frame:
        """Hold an action for one frame and return that frame; raises ValueError for an action the game lacks."""
        return await self._ask({"type": "step", "action": action})

    async def reset(self, seed: int | None = None) -> Frame:
        """Start a new game and return its first frame; the same seed and actions give the same game."""
        return await self._ask({"type": "reset"} | ({} if seed is None else {"seed": seed}))

    async def play(self, rate: float | None = None) -> AsyncIterator[Frame]:
        """Let the game run by itself, at `rate` frames per second or its own, and yield its frames as they come.

        The game stands still again when the iteration is closed: use `contextlib.aclosing`.
        """
        with _explained():
            await self._socket.send(json.dumps({"type": "play"} | ({} if rate is None else {"rate": rate})))
            _object(await self._socket.recv())
            try:
                while True:
                    self.frame = _frame(await self._socket.recv())
                    if self.frame.number % protocol.SEEN_EVERY == 0:
                        await self._socket.send(json.dumps({"type": "seen", "frame": self.frame.number}))
                    yield self.frame
            finally:
                for kind in ("pause", "ping"):
                    await self._socket.send(json.dumps({"type": kind}))
                while isinstance(message := await self._socket.recv(), bytes) or json.loads(message)["type"] != "pong":
                    pass  # what was under way

    async def hold(self, action: str) -> None:
        """Hold an action from now on, while the game runs by itself."""
        with _explained():
            await self._socket.send(json.dumps({"type": "action", "action": action}))

    async def _ask(self, message: dict[str, Any]) -> Frame:
        with _explained():
            await self._socket.send(json.dumps(message))
            self.frame = _frame(await self._socket.recv())
        return self.frame


@contextlib.asynccontextmanager
async def connect(url: str, *, token: str | None = None) -> AsyncIterator[RemoteGame]:
    """Connect to a served game: `async with connect("http://127.0.0.1:8000") as game: await game.step("jump")`.

    Raises:
        ConnectionError: nothing answers there, or the server refused or ended the connection; says why.
        ValueError: the address is no game, or the server did not accept a message.
    """
    address = _address(url, token)
    try:
        socket = await connect_socket(address, open_timeout=OPEN_SECONDS, max_size=2**24, compression=None)
    except (OSError, websockets.InvalidHandshake, websockets.InvalidMessage, TimeoutError) as error:
        raise ConnectionError(f"no game answers at {url}: {error}. Is it served there?") from error
    async with socket:
        with _explained():
            hello = _object(await socket.recv())
            if hello.get("type") != "hello" or hello.get("protocol") != protocol.PROTOCOL_VERSION:
                raise ValueError(
                    f"{url} does not speak this protocol, got {protocol.shown(hello)}; expected version "
                    f"{protocol.PROTOCOL_VERSION}. Use the same gamengen release on both sides."
                )
            first = _frame(await socket.recv())
        yield RemoteGame(socket, hello, first)


def _address(url: str, token: str | None) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise ValueError(f"bad address, got {url!r}; expected one such as http://127.0.0.1:8000.")
    path = parts.path.rstrip("/").removesuffix("/play") + "/play"
    return urlunsplit((scheme, parts.netloc, path, urlencode({"token": token}) if token else parts.query, ""))


def _object(message: str | bytes) -> dict[str, Any]:
    """Return a text message of the server; raises ValueError with the server's words where it is an error."""
    answer = json.loads(message) if isinstance(message, str) else {}
    if answer.get("type") == "error":
        raise ValueError(answer["message"])
    return answer


def _frame(message: str | bytes) -> Frame:
    if isinstance(message, str):
        raise ValueError(f"expected a frame, got {protocol.shown(_object(message))}.")
    header, jpeg = protocol.unpack_frame(message)
    return Frame(
        image=np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")),
        number=header.number,
        action=header.action,
        is_start=bool(header.flags & protocol.FLAG_START),
        model_seconds=header.model_microseconds / 1e6,
    )


@contextlib.contextmanager
def _explained():
    """Turn a closed socket into a ConnectionError that says why and what to do."""
    advice = {
        protocol.CLOSE_FULL: "Try again later, or raise serve.max_players.",
        protocol.CLOSE_POLICY: "Give the right token: connect(url, token=...).",
        protocol.CLOSE_TOO_BIG: f"A message may have at most {protocol.MAX_MESSAGE_BYTES} bytes.",
    }
    try:
        yield
    except websockets.ConnectionClosed as error:
        close = error.rcvd
        reason = f"{close.reason or 'no reason given'} (code {close.code})" if close else "the connection broke"
        what_to_do = advice.get(close.code if close else 0, "Connect again; a new game will start.")
        raise ConnectionError(f"the server ended the game: {reason}. {what_to_do}") from error
