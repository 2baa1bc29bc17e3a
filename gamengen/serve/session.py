"""One player: the state of the game, the action that is held, and the conversation; knows no Ray and no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from gamengen.game import GameSpec, parts_of
from gamengen.serve import protocol
from gamengen.serve.batcher import Batcher, StepError, Turn

if TYPE_CHECKING:
    from gamengen.engine import EngineState

logger = logging.getLogger(__name__)

# Frames under way to the player in real time: eight at least, enough for 400 ms of network at 20 frames per second,
# and those of which a player does not tell at once.
MAX_UNSEEN = 8 + protocol.SEEN_EVERY
MIN_RATE = 1.0
IDLE_SECONDS = 600.0  # a silent player's place is given to somebody else


class Socket(Protocol):
    """The part of an accepted `starlette.websockets.WebSocket` that a session uses."""

    async def receive(self) -> Mapping[str, Any]: ...
    async def send_text(self, data: str) -> None: ...
    async def send_bytes(self, data: bytes) -> None: ...
    async def close(self, code: int = 1000, reason: str | None = None) -> None: ...


class Session:
    """Plays one game over one accepted socket until the player leaves or `end` is called."""

    def __init__(self, socket: Socket, batcher: Batcher, game: GameSpec, model: Mapping[str, Any]) -> None:
        self._socket = socket
        self._batcher = batcher
        self._game = game
        self._model = model
        self._state: EngineState | None = None
        self._number = 0  # of the last frame sent
        self._seen = 0  # the last frame that the player says was shown
        self._input_id = 0
        self._held = 0
        self._tapped: int | None = None  # pressed since the last tick: a short tap must not fall between two ticks
        self._turn = asyncio.Lock()  # a step or a reset: the state changes in one place at a time
        self._ticker: asyncio.Task[None] | None = None
        self.num_skipped = 0  # ticks without a frame, because the player or the model did not keep up

    @property
    def max_rate(self) -> float:
        """The highest rate of frames per second that a player may ask for."""
        return max(60.0, self._game.frames_per_second)

    async def run(self) -> None:
        """Greet, send the first frame and answer until the socket closes; the socket is closed or gone afterwards."""
        try:
            hello = {"protocol": protocol.PROTOCOL_VERSION, "game": dataclasses.asdict(self._game)}
            await self._send("hello", **hello, model=dict(self._model))
            await self._answer({"type": "reset"})
            while (text := await self._receive()) is not None:
                try:
                    await self._answer(protocol.parse(text))
                except ValueError as error:
                    await self._send("error", message=str(error))
        except _Gone:
            pass
        finally:
            await self._stop_ticker()

    async def end(self, code: int, reason: str) -> None:
        """Close the player's socket; `run` returns soon after."""
        with contextlib.suppress(Exception):  # it may be closed already
            await self._socket.close(code, reason)

    async def _receive(self) -> str | None:
        """Return the next text message, None when the conversation is over; answers what is not text or too large."""
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    message = await self._socket.receive()
            except TimeoutError:
                await self.end(protocol.CLOSE_NORMAL, f"nothing received for {IDLE_SECONDS:.0f} s")
                return None
            if message["type"] == "websocket.disconnect":
                return None
            text, data = message.get("text"), message.get("bytes")
            size = len(data) if text is None else len(text.encode())
            if size > protocol.MAX_MESSAGE_BYTES:
                reason = f"message too large, got {size} bytes; expected at most {protocol.MAX_MESSAGE_BYTES}"
                await self._send("error", message=reason)
                await self.end(protocol.CLOSE_TOO_BIG, reason)
                return None
            if text is not None:
                return text
            await self._send("error", message=f"unexpected binary message, got {size} bytes; expected JSON text.")

    async def _answer(self, message: Mapping[str, Any]) -> None:
        """Act on one message; raises ValueError, to be told to the player, for one that is malformed."""
        match message["type"]:
            case "step":
                await self._on_step(message)
            case "action":
                self._on_action(message)
            case "seen":
                self._seen = max(
                    self._seen, min(protocol.integer(message, "frame", protocol.MAX_ID) or 0, self._number)
                )
            case "play":
                await self._on_play(message)
            case "pause":
                await self._stop_ticker()
                await self._send("paused")
            case "reset":
                seed = protocol.integer(message, "seed", protocol.MAX_SEED)
                self._read_id(message)
                await self._try(self._reset(secrets.randbelow(protocol.MAX_SEED) if seed is None else seed))
            case "ping":
                await self._send("pong", t=protocol.number(message, "t"))

    async def _on_step(self, message: Mapping[str, Any]) -> None:
        action = self._index(message.get("action"))
        if self._ticker is not None:
            raise ValueError("a step while the game runs in real time; send pause first.")
        self._read_id(message)
        await self._try(self._step(action))

    def _on_action(self, message: Mapping[str, Any]) -> None:
        held = message.get("action")
        if isinstance(held, list):
            action = self._index(self._game.joined([self._game.actions[self._index(name)] for name in held]))
        else:
            action = self._index(held)
        self._read_id(message)
        self._held = action
        if action != 0 and not self._is_part_of_tap(action):
            self._tapped = action

    def _is_part_of_tap(self, action: int) -> bool:
        """Whether a key of the tap was merely let go: forward after forward+attack leaves the shot to be fired."""
        if self._tapped is None:
            return False
        names = self._game.actions
        return parts_of(names[action]) < parts_of(names[self._tapped])

    async def _on_play(self, message: Mapping[str, Any]) -> None:
        asked = protocol.number(message, "rate")
        rate = min(max(self._game.frames_per_second if asked is None else asked, MIN_RATE), self.max_rate)
        await self._stop_ticker()
        self._held, self._tapped, self._seen = 0, None, self._number
        await self._send("playing", rate=rate)
        self._ticker = asyncio.create_task(self._tick(rate))

    async def _tick(self, rate: float) -> None:
        """Send frames in real time; a tick that comes too early for the player or the model is skipped, never saved."""
        loop = asyncio.get_running_loop()
        period, due = 1 / rate, loop.time()
        try:
            while True:
                if self._number - self._seen >= MAX_UNSEEN:
                    self.num_skipped += 1
                elif not await self._try(self._step(None, due + period)):
                    break
                num_ticks = max(1, int((loop.time() - due) / period))
                self.num_skipped += num_ticks - 1
                due += num_ticks * period
                await asyncio.sleep(due - loop.time())
            await self._send("paused")
            self._ticker = None
        except _Gone:
            pass  # `run` notices as well

    async def _try(self, turn: Any) -> bool:
        """Await a step or a reset; tells the player and returns False when the model failed."""
        try:
            await turn
        except StepError as error:
            await self._send("error", message=str(error))
            return False
        return True

    async def _step(self, action: int | None, deadline: float | None = None) -> None:
        """Advance by `action`, or by what the player holds where that is None, and send the frame."""
        async with self._turn:
            if self._state is None:  # the very first reset failed
                raise StepError("there is no game yet. Send reset.")
            if action is None:
                action, self._tapped = self._held if self._tapped is None else self._tapped, None
            turn = await self._batcher.step(self._state, action, deadline)
            await self._show(turn, action, protocol.FLAG_LATE if turn.late else 0)

    async def _reset(self, seed: int) -> None:
        async with self._turn:
            self._tapped = None
            await self._show(await self._batcher.reset(seed), 0, protocol.FLAG_START)

    async def _show(self, turn: Turn, action: int, flags: int) -> None:
        self._state = turn.state
        self._number += 1
        header = protocol.FrameHeader(self._number, action, flags, round(turn.model_seconds * 1e6), self._input_id)
        try:
            await self._socket.send_bytes(header.pack() + turn.jpeg)
        except Exception as error:  # servers raise different things for a socket that closed meanwhile
            raise _Gone from error

    async def _send(self, kind: str, **fields: Any) -> None:
        try:
            await self._socket.send_text(json.dumps({"type": kind, **fields}))
        except Exception as error:
            raise _Gone from error

    def _index(self, name: object) -> int:
        if not isinstance(name, str) or name not in self._game.actions:
            expected = ", ".join(self._game.actions)
            raise ValueError(f"unknown action, got {protocol.shown(name)}; expected one of {expected}.")
        return self._game.actions.index(name)

    def _read_id(self, message: Mapping[str, Any]) -> None:
        self._input_id = protocol.integer(message, "id", protocol.MAX_ID) or self._input_id

    async def _stop_ticker(self) -> None:
        ticker, self._ticker = self._ticker, None
        if ticker is None:
            return
        ticker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticker


class _Gone(Exception):
    """The player's socket is closed."""
