"""DOOM as a gymnasium env: levels by name, 43 actions, frames with status bar; knows the engine only by its module."""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from gamengen.envs.doom import actions as buttons
from gamengen.envs.doom import pooling, scenarios, variables
from gamengen.envs.doom.engine import HEIGHT, SUPERSAMPLING, TICS_PER_SECOND, WIDTH, Engine
from gamengen.envs.doom.reward import CELL_SIZE, PaperReward
from gamengen.game import GameSpec

_PADDING = 8  # rows above and below: 256 is a multiple of what autoencoders and U-Nets halve, 240 is not
SPEC = GameSpec(
    name="doom",
    height=HEIGHT + 2 * _PADDING,
    width=WIDTH,
    frames_per_second=TICS_PER_SECOND / 2,
    tics_per_frame=2,
    actions=buttons.NAMES,
    keyboard=buttons.KEYBOARD,
    padding=(_PADDING, _PADDING),
    variables=variables.NAMES,
    has_levels=True,
)
OBSERVATIONS = ("pixels", "none")
REWARDS = ("paper", "scenario")
ACTIONS = ("all", "scenario")
NUM_PAST_ACTIONS = 32
_ONLY_HERE = 3  # references to a frame: the deque, the loop's variable, getrefcount's argument
Observation = dict[str, np.ndarray] | np.int64


class DoomEnv(gymnasium.Env[Observation, np.int64]):
    """An episode is played on one level, drawn by its seed; it ends with death, an exit or the time limit.

    In a deathmatch (with bots, or on a map for nothing else) the player comes back after a death, and time ends it.

    The observation "pixels" is the paper's: `screen` uint8 [120, 160, 3], `automap` uint8 [120, 160] (what the player
    has seen so far; grey) and `actions` int64 [32], the last decisions, the latest last. It is taken when there is
    something to decide, every `action_tics` and at the end, and stands in between. "none" is always 0, for who does not
    look: it saves the automap. `info` has `variables` (name -> number), `level`, `held_out`, `reward_terms`
    (by name; `scenario` alone for the scenario's reward), and with `labels=True` `labels`: (name, category, x, y,
    width, height) of everything on the screen.

    Args:
        levels: a level, a list, or levels with their shares; see `scenarios` for names.
        held_out: those of `levels` whose episodes are never trained on (their split is `test`).
        wad: your own game data, such as doom2.wad; None plays Freedoom, which comes with ViZDoom.
        skill: 1 to 5; None takes the scenario's own, and 3 for a map.
        frame_tics: tics of 1/35 s per frame.
        action_tics: tics per decision of an agent (the paper's 4 frames); who acts holds its action so long, as
            `gamengen.collect.holding` does.
        observation: "pixels" or "none".
        reward: "paper" (A.5) or "scenario", the scenario's own.
        actions: "all" 43, or "scenario", those whose buttons the scenarios in `levels` mean to be pressed: few, from
            which an agent learns sooner.
        cell_size: of the paper's reward for new areas, see `reward`.
        area_origin: likewise, "start" or "map".
        max_frames: truncate an episode after so many frames; None takes the level's own limit.
        supersampling: render so many pixels for each across and down, and show their means: smooth pictures, of which
            more can be foreseen than of textures that flicker as one moves; 1, 2, 4 or 5. From 2 on the status bar has
            38 rows, as on DOOM's own screens of 4:3, in place of 32; `delta-zstd` is the codec for so many colours.
        labels: say in `info` what is on the screen, for scripted players; a third slower.
        more_variables: further variables of ViZDoom to record, such as "user1".
        render_mode: "rgb_array", the only one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": SPEC.frames_per_second}  # noqa: RUF012 (gymnasium's name)

    def __init__(
        self,
        levels: str | Sequence[str] | Mapping[str, float] = "MAP01",
        held_out: Sequence[str] = (),
        wad: str | None = None,
        skill: int | None = None,
        frame_tics: int = SPEC.tics_per_frame,
        action_tics: int = 4,
        observation: str = "pixels",
        reward: str = "paper",
        actions: str = "all",
        cell_size: float = CELL_SIZE,
        area_origin: str = "start",
        max_frames: int | None = None,
        supersampling: int = 1,
        labels: bool = False,
        more_variables: Sequence[str] = (),
        render_mode: str = "rgb_array",
    ) -> None:
        _check("frame_tics", frame_tics, _is_count(frame_tics), "a whole number of at least 1")
        fits = _is_count(action_tics) and action_tics % frame_tics == 0
        _check("action_tics", action_tics, fits, f"a multiple of frame_tics, {frame_tics}")
        _check("observation", observation, observation in OBSERVATIONS, f"one of {OBSERVATIONS}")
        limit_ok = max_frames is None or _is_count(max_frames)
        _check("max_frames", max_frames, limit_ok, "None or a whole number of at least 1")
        _check("supersampling", supersampling, supersampling in SUPERSAMPLING, f"one of {SUPERSAMPLING}")
        _check("render_mode", render_mode, render_mode == "rgb_array", "'rgb_array'")
        self._shares = scenarios.weighted(levels)
        self._levels = {name: scenarios.resolve(name, wad, skill) for name in self._shares}
        self._check_levels(held_out, reward)
        _check("actions", actions, actions in ACTIONS, f"one of {ACTIONS}")
        names = buttons.NAMES if actions == "all" else scenarios.meant_actions(self._levels.values())
        self._pressed = [buttons.buttons(name) for name in names]
        self.render_mode = render_mode
        self._reader = variables.Reader(more_variables)
        self.game_spec = dataclasses.replace(
            SPEC,
            frames_per_second=TICS_PER_SECOND / frame_tics,
            tics_per_frame=frame_tics,
            actions=names,
            keyboard=buttons.keyboard(names),
            variables=self._reader.names,
        )
        self.metadata = {**self.metadata, "render_fps": self.game_spec.frames_per_second}
        self.action_space = gymnasium.spaces.Discrete(len(names))
        self._sees = observation == "pixels"
        self.observation_space = _pixels_space(len(names)) if self._sees else gymnasium.spaces.Discrete(1)
        self.frames_per_action = action_tics // frame_tics
        self._held_out, self._max_frames, self._labels = frozenset(held_out), max_frames, labels
        self._paper = PaperReward(cell_size, area_origin)
        self._is_paper = reward == "paper"
        self._engine = Engine(self._reader.wanted, self._sees, labels, supersampling)
        self._frames: deque[np.ndarray] = deque(maxlen=4)  # who keeps more gets new ones
        self._past: deque[int] = deque(maxlen=NUM_PAST_ACTIONS)
        self._automap = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)  # kept: there is none at an episode's end
        self._num_frames = 0
        self._running = False

    def _check_levels(self, held_out: Sequence[str], reward: str) -> None:
        for name in held_out:
            if name not in self._levels:
                hint = scenarios.nearest(name, list(self._levels))
                raise ValueError(f"held_out, got {name!r}; expected some of levels. {hint.capitalize()}")
        _check("reward", reward, reward in REWARDS, f"one of {REWARDS}")
        without = [name for name, level in self._levels.items() if not level.is_scenario]
        if reward == "scenario" and without:
            raise ValueError(
                f"reward, got 'scenario' for level {without[0]!r}, a map, which has no reward of its own; expected "
                "'paper', or only scenarios in levels."
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode on a level drawn by its share; `options={"level": name}` says which of `levels`.

        Raises:
            ValueError: `options` names none of the levels.
            GameDied: the game's process has ended; `reset` again starts a new one.
        """
        super().reset(seed=seed)
        self._running = False
        drawn = str(self.np_random.choice(list(self._shares), p=list(self._shares.values())))
        name = (options or {}).get("level", drawn)
        if name not in self._levels:
            hint = scenarios.nearest(str(name), list(self._levels))
            raise ValueError(f"level, got {name!r}; expected one of levels. {hint.capitalize()}")
        self._level = self._levels[name]
        self._engine.start(self._level, int(self.np_random.integers(2**31)))
        self._limit = self._max_frames or max(self._level.max_tics // self.game_spec.tics_per_frame, 1)
        self._num_frames = 0
        self._past.extend([0] * NUM_PAST_ACTIONS)
        self._variables = self._reader.begin(self._engine.values)
        self._paper.reset(self._variables)
        self._running = True
        self._observation = self._observe()
        return self._observation, self._info({})

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hold the action's buttons for one frame.

        Raises:
            ValueError: no such action.
            GameDied: the process has ended; the episode is lost, and `reset` starts a new one.
        """
        if not self._running:
            raise gymnasium.error.ResetNeeded("step() after the episode's end or before its start; call reset() first.")
        names = self.game_spec.actions
        if not 0 <= action < len(names):
            raise ValueError(f"unknown action, got {action!r}; expected 0 to {len(names) - 1}: {names}.")
        self._running = False  # until the engine has come back
        self._engine.step(self._pressed[action], self.game_spec.tics_per_frame)
        if self._num_frames % self.frames_per_action == 0:
            self._past.append(int(action))
        self._num_frames += 1
        self._variables = self._reader.read(self._engine.values)
        terms = self._paper.step(self._variables) if self._is_paper else {"scenario": float(self._engine.reward)}
        terminated = self._engine.finished
        truncated = not terminated and self._num_frames >= self._limit
        self._running = not (terminated or truncated)
        if self._num_frames % self.frames_per_action == 0 or not self._running:
            self._observation = self._observe()
        return self._observation, sum(terms.values()), terminated, truncated, self._info(terms)

    def render(self) -> np.ndarray:
        """Return the recorded frame, uint8 [256, 320, 3]: the game between 8 black rows each; the caller owns it."""
        frame = self._unused_frame()
        frame[:_PADDING] = frame[-_PADDING:] = 0
        frame[_PADDING:-_PADDING] = self._engine.screen
        return frame

    def _unused_frame(self) -> np.ndarray:
        """Return memory for a frame: one handed out before that nobody refers to any more, else new.

        New memory of this size comes from the system, page by page, and costs several times what the copy does.
        """
        for frame in self._frames:
            if sys.getrefcount(frame) == _ONLY_HERE:
                return frame
        self._frames.append(np.empty((self.game_spec.height, WIDTH, 3), np.uint8))
        return self._frames[-1]

    def close(self) -> None:
        """End the game's process."""
        self._running = False
        self._engine.close()

    def _observe(self) -> Observation:
        if not self._sees:
            return np.int64(0)
        if self._engine.automap is not None:
            colours = np.moveaxis(pooling.maximum(self._engine.automap, 2), 2, 0)
            self._automap = np.maximum.reduce(list(colours))  # grey; a mean would lose the map's thin lines
        return {
            "screen": pooling.mean(self._engine.screen, 2),
            "automap": self._automap.copy(),
            "actions": np.array(self._past, np.int64),
        }

    def _info(self, terms: dict[str, float]) -> dict[str, Any]:
        info = {
            "variables": self._variables,
            "level": self._level.name,
            "held_out": self._level.name in self._held_out,
            "reward_terms": terms,
        }
        if self._labels:
            info["labels"] = self._engine.labels
        return info


def _pixels_space(num_actions: int) -> gymnasium.spaces.Dict:
    half = (HEIGHT // 2, WIDTH // 2)
    return gymnasium.spaces.Dict(
        screen=gymnasium.spaces.Box(0, 255, (*half, 3), np.uint8),
        automap=gymnasium.spaces.Box(0, 255, half, np.uint8),
        actions=gymnasium.spaces.Box(0, num_actions - 1, (NUM_PAST_ACTIONS,), np.int64),
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1


def _check(what: str, value: Any, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"{what}, got {value!r}; expected {expected}.")
