"""What travels between a player and the server, byte by byte; shared by server and client, knows no model and no Ray.

Text messages are JSON objects with a `type`. The server's are `hello`, `playing`, `paused`, `pong` and `error`; the
player's are:

    {"type": "step", "action": "jump", "id": 7}   one frame for one message (lock-step); `id` is optional
    {"type": "play", "rate": 20}                  real time: the server sends frames at this rate, or the game's own
    {"type": "action", "action": "duck", "id": 8} what is held from now on in real time: an action, or those of all held
                                                  keys, the first pressed first, as a list: see GameSpec.joined
    {"type": "seen", "frame": 12}                 real time: all up to this frame were shown; the server never runs far
                                                  ahead, so every SEEN_EVERY frames it must hear of it
    {"type": "pause"}                             ends real time
    {"type": "reset", "seed": 3}                  a new game; a random one without `seed`
    {"type": "ping", "t": 1.5}                    answered by `pong` with the same `t`

A frame is one binary message: `FRAME_HEADER`, then a JPEG.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any, NoReturn

PROTOCOL_VERSION = 1
TOKEN_VARIABLE = "GAMENGEN_PLAY_TOKEN"  # of the environment of the process that serves: what players must give
MAX_MESSAGE_BYTES = 4096
MAX_ID = 2**32 - 1
MAX_SEED = 2**31 - 1
SEEN_EVERY = 4  # frames: a message up for every frame down would cost as much as the frame itself

# Little-endian: frame number, action that led to it, flags, 2 bytes of padding, model time in microseconds, id of the
# player's last input that this frame knows of.
FRAME_HEADER = struct.Struct("<IBBxxII")
FLAG_START = 1  # the first frame of a new game
FLAG_LATE = 2  # real time: finished after its deadline

# Close codes (RFC 6455, section 7.4, and the IANA registry).
CLOSE_NORMAL = 1000
CLOSE_POLICY = 1008  # token or Origin not accepted: trying again does not help
CLOSE_TOO_BIG = 1009
CLOSE_RESTART = 1012  # the server goes away: reconnect
CLOSE_FULL = 1013  # no free place: try again later

MESSAGE_TYPES = ("step", "play", "action", "seen", "pause", "reset", "ping")


@dataclass(frozen=True)
class FrameHeader:
    """Describes the frame that follows it in a binary message."""

    number: int
    action: int
    flags: int
    model_microseconds: int
    input_id: int

    def pack(self) -> bytes:
        """Return the header's 16 bytes."""
        model = min(self.model_microseconds, MAX_ID)
        return FRAME_HEADER.pack(self.number & MAX_ID, self.action, self.flags, model, self.input_id)


def unpack_frame(message: bytes) -> tuple[FrameHeader, bytes]:
    """Split a binary message into its header and JPEG; raises ValueError if it is too short to be a frame."""
    if len(message) <= FRAME_HEADER.size:
        raise ValueError(f"not a frame, got {len(message)} bytes; expected more than {FRAME_HEADER.size}.")
    return FrameHeader(*FRAME_HEADER.unpack_from(message)), message[FRAME_HEADER.size :]


def place(model: str) -> str:
    """Return a short hash of where a model lies: tells games of one name apart, and does not tell the path."""
    return hashlib.sha256(model.encode()).hexdigest()[:16]


def parse(text: str) -> dict[str, Any]:
    """Read a player's message; raises ValueError with a line that says what is wrong with it."""
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ValueError(f"the message is not JSON, got {shown(text)}; expected one JSON object.") from None
    if not isinstance(message, dict):
        raise ValueError(f"the message is not an object, got {shown(text)}; expected one JSON object.")
    if message.get("type") not in MESSAGE_TYPES:
        kinds = ", ".join(MESSAGE_TYPES)
        raise ValueError(f"unknown message type, got {shown(message.get('type'))}; expected one of {kinds}.")
    return message


def integer(message: dict[str, Any], key: str, maximum: int) -> int | None:
    """Return a whole number in 0..maximum, None if it is not given; raises ValueError for anything else."""
    value = message.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise ValueError(f"bad {key!r}, got {shown(value)}; expected a whole number from 0 to {maximum}.")
    return value


def number(message: dict[str, Any], key: str) -> float | None:
    """Return a finite number, None if it is not given; raises ValueError for anything else."""
    value = message.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        raise ValueError(f"bad {key!r}, got {shown(value)}; expected a number.")
    return float(value)


def shown(value: object) -> str:
    """Return what a player sent, short and on one line, as it may appear in an error."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
