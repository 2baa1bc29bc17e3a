"""What every phase must know about a game, and nothing about how the game is played or learnt."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

Frames = TypeVar("Frames", bound=Any)


def parts_of(action: str) -> frozenset[str]:
    """Return what is done at once in an action: "forward+attack" is forward and attack."""
    return frozenset(action.split("+"))


@dataclass(frozen=True)
class GameSpec:
    """Describes a game as the recorder, the model, the server and the page see it.

    Frames are uint8 RGB of shape [height, width, 3]. An action is an index into `actions`; the player holds it for
    `tics_per_frame` updates of the game, after which the next frame is taken.

    Attributes:
        name: the game's name in YAML: a module of `gamengen.envs`, or the import path of your own module.
        height: rows of a recorded frame, in pixels.
        width: columns of a recorded frame, in pixels.
        frames_per_second: recorded (and played) frames per second of game time.
        tics_per_frame: game updates between two recorded frames.
        actions: distinct action names; index 0 is what happens when no key is held. Where several things can be done at
            once, a name joins theirs with "+", such as "forward+attack".
        keyboard: `KeyboardEvent.code` of a browser -> action name; of several held keys see `joined`.
        restart_action: the action that leaves the game-over screen, or None where a game restarts by itself.
        restart_delay: frames for which the game-over screen does not listen to it.
        padding: rows above and below the picture that only make the size fit. They are recorded and learnt, but who
            looks at a frame, a person, a metric or a probe, gets `visible(frame)`.
        variables: names of the game's numbers that are recorded with every frame.
        has_levels: episodes are played on levels, whose names are recorded.
    """

    name: str
    height: int
    width: int
    frames_per_second: float
    tics_per_frame: int
    actions: tuple[str, ...]
    keyboard: Mapping[str, str]
    restart_action: str | None = None
    restart_delay: int = 0
    padding: tuple[int, int] = (0, 0)
    variables: tuple[str, ...] = ()
    has_levels: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", tuple(self.actions))
        object.__setattr__(self, "keyboard", dict(self.keyboard))
        object.__setattr__(self, "padding", tuple(self.padding))
        object.__setattr__(self, "variables", tuple(self.variables))
        if min(self.height, self.width, self.tics_per_frame) < 1 or self.frames_per_second <= 0:
            raise ValueError(f"game {self.name!r}: sizes and rates must be positive, got {self}")
        if len(set(self.actions)) != len(self.actions) or not self.actions:
            raise ValueError(f"game {self.name!r}: action names must be distinct and not empty, got {self.actions}")
        if len(self.padding) != 2 or min(self.padding) < 0 or sum(self.padding) >= self.height:
            raise ValueError(
                f"game {self.name!r}: padding, got {self.padding}; expected two counts, together below {self.height}"
            )
        if len(set(self.variables)) != len(self.variables):
            raise ValueError(f"game {self.name!r}: variable names must be distinct, got {self.variables}")
        unknown = {*self.keyboard.values(), self.restart_action or self.actions[0]} - set(self.actions)
        if unknown:
            raise ValueError(f"game {self.name!r}: unknown actions {sorted(unknown)}; expected some of {self.actions}")

    @property
    def num_actions(self) -> int:
        return len(self.actions)

    @property
    def visible_rows(self) -> slice:
        """The rows of a frame that are the game's picture."""
        return slice(self.padding[0], self.height - self.padding[1])

    def visible(self, frames: Frames) -> Frames:
        """Return frames [..., height, width, 3] (arrays or tensors) without the padding."""
        return frames[..., self.visible_rows, :, :]

    def unpadded(self) -> GameSpec:
        """Return the spec of the picture without the padding: the game as its players get to know it."""
        return dataclasses.replace(self, height=self.height - sum(self.padding), padding=(0, 0))

    def action_index(self, name: str) -> int:
        """Return the index of an action's name; raises ValueError for a name the game does not have."""
        if name not in self.actions:
            raise ValueError(
                f"unknown action {name!r} for game {self.name!r}; expected one of {', '.join(self.actions)}"
            )
        return self.actions.index(name)

    def joined(self, held: Sequence[str]) -> str:
        """Return the action of held keys, given as their actions, the one pressed first first.

        The key pressed last counts. Every other one, from the last to the first, is joined to it if the game has an
        action of just these parts, and else ignored: forward, attack and left may be one action, forward and back not.
        """
        parts: frozenset[str] = frozenset()
        for name in reversed(held):
            more = parts | parts_of(name)
            parts = more if more in self._by_parts else parts
        return self._by_parts.get(parts, self.actions[0])

    @cached_property
    def _by_parts(self) -> Mapping[frozenset[str], str]:
        return {parts_of(name): name for name in reversed(self.actions)}  # of two that mean the same, the first

    def to_json(self) -> str:
        """Return the spec as one line of JSON (Parquet metadata, `game.json`, the server's first message)."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> GameSpec:
        """Read what `to_json` wrote; raises ValueError if it is not a GameSpec."""
        try:
            fields: dict[str, Any] = json.loads(text)
            return cls(**fields)
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a GameSpec: {error}") from error
