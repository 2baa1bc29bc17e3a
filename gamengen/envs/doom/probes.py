"""What an evaluation asks of this game, answered from frames alone; see `gamengen.envs.Probes`.

DOOM tints the whole picture for some frames, red when the player is hurt and gold when something is picked up. Most of
the status bar is grey, so its median is an exact gauge of the tint, whatever is to be seen above it. The screen that
follows a finished level is brown all over, which is both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gamengen.game import GameSpec

QUIET_FRAMES = 1  # none: the floor of a maze hurts at once; a rollout needs one frame to begin from
FOLLOWED_WITHIN: Mapping[str, int] = {}  # one frame shows no movement; inverse dynamics tells the actions from two

_BAR_SHARE = 32 / 240  # of the rows; the lower ones of the bar's 38 where the game is supersampled
# A tint fades within some frames, and jumps up with every hit, with weak ones by 16 of 255. What is picked up makes 18
# of gold, less under the red of a hit, and 6 of red.
_RED_JUMP, _GOLD_JUMP = 11, 9
_HOLD_FRAMES = 4
_FORWARD_SHARE = 0.5  # of the decisions: who turns and shoots at random stays where nothing is


def status_bar(height: int, width: int) -> tuple[slice, slice]:
    """Return rows and columns of the status bar in frames of this size without padding."""
    return slice(height - round(_BAR_SHARE * height), height), slice(0, width)


def tints(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how red and how gold frames are, 0 to 255: float [N] each."""
    rows, columns = status_bar(*frames.shape[1:3])
    bar = frames[:, rows, columns].reshape(len(frames), -1, 3).astype(np.float32)
    return tuple(np.median(bar[..., more] - bar[..., less], axis=1) for more, less in ((0, 1), (1, 2)))


def is_free(frames: np.ndarray) -> np.ndarray:
    """Return where the picture has no tint, bool [N]."""
    red, gold = tints(frames)
    return (red < _RED_JUMP) & (gold < _GOLD_JUMP)


def shows(action: str, frames: np.ndarray) -> np.ndarray:
    """Raise a ValueError: no action is to be seen in a single frame."""
    raise ValueError(f"action, got {action!r}; expected none, as no single frame of DOOM shows what is pressed.")


def static_regions(height: int, width: int) -> Mapping[str, tuple[slice, slice]]:
    """Return the status bar, which only differs in its figures."""
    return {"status bar": status_bar(height, width)}


def player(seeds: Sequence[int], game: GameSpec, carelessness: float = 1.0) -> FramePlayer:
    """Return a player for as many games as there are seeds; it avoids nothing, whatever its `carelessness`."""
    return FramePlayer(seeds, game)


class FramePlayer:
    """Walks about at random and tells what befalls it, bool [N] each.

    Attributes:
        entered: since the last frame the player was hurt, picked something up or finished the level.
        over, contact, pressed: always False: a death ends the episode, and the next picture is another one's first.
    """

    def __init__(self, seeds: Sequence[int], game: GameSpec) -> None:
        self._rngs = [np.random.default_rng(seed) for seed in seeds]
        self._num_actions = len(game.actions)
        self._forward = [index for index, name in enumerate(game.actions) if "forward" in name.split("+")]
        self._held, self._frames_left = [0] * len(seeds), [0] * len(seeds)
        self._tints: tuple[np.ndarray, np.ndarray] | None = None
        self.over = self.entered = self.contact = self.pressed = np.zeros(len(seeds), bool)

    def act(self, frames: np.ndarray) -> list[int]:
        """Look at the games' frames, uint8 [N, H, W, 3], and return the actions."""
        red, gold = tints(frames)
        if self._tints is not None:
            self.entered = (red - self._tints[0] >= _RED_JUMP) | (gold - self._tints[1] >= _GOLD_JUMP)
        self._tints = red, gold
        for game, rng in enumerate(self._rngs):
            if self._frames_left[game] == 0:
                self._held[game], self._frames_left[game] = self._decide(rng), _HOLD_FRAMES
            self._frames_left[game] -= 1
        return list(self._held)

    def _decide(self, rng: np.random.Generator) -> int:
        if self._forward and rng.random() < _FORWARD_SHARE:
            return int(rng.choice(self._forward))
        return int(rng.integers(self._num_actions))
