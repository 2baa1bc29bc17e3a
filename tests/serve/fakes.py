"""Stand-ins for the serve tests: an engine whose frames tell what was played, and a socket without a network."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gamengen.game import GameSpec
from gamengen.serve import protocol

MAX_PLAYERS = 3  # of the game that the `served` fixture serves

GAME = GameSpec(
    name="toy",
    height=16,
    width=32,
    frames_per_second=50,
    tics_per_frame=1,
    actions=("noop", "jump", "duck"),
    keyboard={"Space": "jump", "ArrowDown": "duck"},
)
SHOOTER = dataclasses.replace(
    GAME,
    actions=("noop", "forward", "left", "forward+left", "fire", "forward+fire", "left+fire", "forward+left+fire"),
    keyboard={"ArrowUp": "forward", "ArrowLeft": "left", "Space": "fire"},
)


@dataclass(frozen=True)
class FakeState:
    """The whole past of B players: (seed, action, action, ...)."""

    pasts: tuple[tuple[int, ...], ...]

    @staticmethod
    def stack(states: Sequence[FakeState]) -> FakeState:
        return FakeState(tuple(past for state in states for past in state.pasts))

    def split(self) -> list[FakeState]:
        return [FakeState((past,)) for past in self.pasts]


class FakeEngine:
    """Keeps the GameEngine's interface; a frame is one colour, the hash of the player's past."""

    num_starts = 4

    def __init__(self, seconds: float = 0.0, game: GameSpec = GAME) -> None:
        self.seconds = seconds
        self.game = game
        self.batches: list[tuple[tuple[int, ...], ...]] = []
        self.threads: set[str] = set()
        self.poison: int | None = None  # a batch with the player of this seed fails

    def reset(self, starts: Sequence[int], seeds: Sequence[int]) -> tuple[np.ndarray, FakeState]:
        return self._result(tuple((seed,) for seed in seeds))

    def step(self, state: FakeState, actions: Sequence[int]) -> tuple[np.ndarray, FakeState]:
        assert len(state.pasts) == len(actions)
        self.batches.append(state.pasts)
        time.sleep(self.seconds)
        if self.poison in [past[0] for past in state.pasts]:
            raise RuntimeError("secret details of the model")
        return self._result(tuple((*past, action) for past, action in zip(state.pasts, actions, strict=True)))

    def _result(self, pasts: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, FakeState]:
        self.threads.add(threading.current_thread().name)
        colours = [list(hashlib.sha256(repr(past).encode()).digest()[:3]) for past in pasts]
        frames = np.array(colours, np.uint8)[:, None, None, :] * np.ones((1, GAME.height, GAME.width, 1), np.uint8)
        return frames, FakeState(pasts)


class FakeSocket:
    """What Starlette's WebSocket does, over queues; `say` and `hear` are the player's side."""

    def __init__(self) -> None:
        self._inbox: asyncio.Queue[dict] = asyncio.Queue()
        self._outbox: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.closed: tuple[int, str | None] | None = None

    async def receive(self) -> dict:
        return await self._inbox.get()

    async def send_text(self, data: str) -> None:
        self._send(data)

    async def send_bytes(self, data: bytes) -> None:
        self._send(data)

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        self.closed = (code, reason)
        self.leave()

    def _send(self, data: str | bytes) -> None:
        if self.closed:
            raise RuntimeError("the socket is closed")
        self._outbox.put_nowait(data)

    def say(self, message: dict | str | bytes) -> None:
        text = json.dumps(message) if isinstance(message, dict) else message
        key = "bytes" if isinstance(text, bytes) else "text"
        self._inbox.put_nowait({"type": "websocket.receive", key: text})

    def leave(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def hear(self) -> dict | tuple[protocol.FrameHeader, bytes]:
        """Return the next message: JSON, or a frame's header and JPEG."""
        message = await asyncio.wait_for(self._outbox.get(), 5)
        return json.loads(message) if isinstance(message, str) else protocol.unpack_frame(message)

    async def hear_frame(self) -> tuple[protocol.FrameHeader, bytes]:
        message = await self.hear()
        assert isinstance(message, tuple), message
        return message

    def unheard(self) -> int:
        return self._outbox.qsize()
