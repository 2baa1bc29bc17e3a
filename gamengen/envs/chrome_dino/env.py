"""The dinosaur game as a gymnasium env: held keys in, score out; knows rules and pictures only by their modules."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np

from gamengen.envs.chrome_dino import physics, render
from gamengen.game import GameSpec

# Chromium's game-over screen ignores the jump key for 1.2 s (24 frames). A model can wait only as long as its context
# reaches back, so we keep just what stops a key that was held at the crash from restarting at once.
SPEC = GameSpec(
    name="chrome_dino",
    height=render.HEIGHT,
    width=render.WIDTH,
    frames_per_second=20,
    tics_per_frame=3,
    actions=("none", "jump", "duck"),
    keyboard={"Space": "jump", "ArrowUp": "jump", "ArrowDown": "duck"},
    restart_action="jump",
    restart_delay=4,
)
OBSERVATIONS = ("pixels", "state")
PIXELS_SHAPE = (40, 128, 2)
STATE_SIZE = 5 + 2 * 6
_PIXEL_ROWS = slice(render.STRIP_TOP - 8, render.STRIP_TOP + 152)  # 160 rows: the strip, 40 rows at a quarter


class ChromeDinoEnv(gymnasium.Env[np.ndarray, np.int64]):
    """The game from its start to the crash.

    An action is the key that is held while a frame lasts. Where it changes, the old key is released first, then the
    new one pressed, before the frame's first update; a key that stays held does not repeat.

    The observation "pixels" is uint8 [40, 128, 2]: the strip of the game in grey at a quarter of its size, as it is
    seen (inverted at night), the frame before and this one (two show every motion). "state" is float32 [17] in
    [-1, 1], see `observe_state`. The reward is the increase of the score, 0.025 per pixel run, without rounding.

    Args:
        frame_tics: updates of 1/60 s per frame.
        downscale: the recorded frame is 256 x 512 divided by this: 1, 2, 4 or 8.
        observation: "pixels" or "state".
        max_frames: truncate an episode after so many frames.
        crash_reward: added to the reward of the frame with the crash.
        high_score: shown as "HI" beside the score; 0 shows nothing.
        render_mode: "rgb_array", the only one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": SPEC.frames_per_second}  # noqa: RUF012 (gymnasium's name)

    def __init__(
        self,
        frame_tics: int = SPEC.tics_per_frame,
        downscale: int = 1,
        observation: str = "pixels",
        max_frames: int | None = None,
        crash_reward: float = 0.0,
        high_score: int = 0,
        render_mode: str = "rgb_array",
    ) -> None:
        _check("frame_tics", frame_tics, _is_count(frame_tics), "a whole number of at least 1")
        _check("downscale", downscale, downscale in render.DOWNSCALES, f"one of {render.DOWNSCALES}")
        _check("observation", observation, observation in OBSERVATIONS, f"one of {OBSERVATIONS}")
        limit_ok = max_frames is None or _is_count(max_frames)
        _check("max_frames", max_frames, limit_ok, "None or a whole number of at least 1")
        _check("crash_reward", crash_reward, isinstance(crash_reward, (int, float)), "a number")
        _check("high_score", high_score, high_score == 0 or _is_count(high_score), "a whole number of at least 0")
        _check("render_mode", render_mode, render_mode == "rgb_array", "'rgb_array'")
        self.render_mode = render_mode
        self.game_spec = dataclasses.replace(
            SPEC,
            height=SPEC.height // downscale,
            width=SPEC.width // downscale,
            frames_per_second=physics.UPDATES_PER_SECOND / frame_tics,
            tics_per_frame=frame_tics,
        )
        self.metadata = {**self.metadata, "render_fps": self.game_spec.frames_per_second}
        self.action_space = gymnasium.spaces.Discrete(SPEC.num_actions)
        self.observation_space = (
            gymnasium.spaces.Box(0, 255, PIXELS_SHAPE, np.uint8)
            if observation == "pixels"
            else gymnasium.spaces.Box(-1.0, 1.0, (STATE_SIZE,), np.float32)
        )
        self._max_frames, self._crash_reward, self._high_score = max_frames, float(crash_reward), high_score
        self._game = physics.Game()
        self._painter = render.FramePainter(downscale)
        self._eye = render.Renderer(channels=1) if observation == "pixels" else None
        self._canvas: np.ndarray | None = None  # what the eye sees
        self._pixels = np.zeros(PIXELS_SHAPE, np.uint8)
        self._num_frames = 0
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Go to the canonical start.

        `options={"mulberry32": n}` seeds the game's generator as the browser's mulberry32(n); else n is drawn from
        gymnasium's generator, which `seed` seeds.
        """
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**32))
        self._game.reset(int((options or {}).get("mulberry32", drawn)))
        self._num_frames = 0
        self._running = True
        return self._observe(is_first=True), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold the action's key for one frame; a crash ends the frame early."""
        if not self._running:
            raise gymnasium.error.ResetNeeded("step() after the episode's end or before its start; call reset() first.")
        if not 0 <= action < SPEC.num_actions:
            raise ValueError(f"unknown action, got {action!r}; expected 0 to {SPEC.num_actions - 1}: {SPEC.actions}.")
        game = self._game
        before = game.distance
        game.hold(int(action))
        for _ in range(self.game_spec.tics_per_frame):
            game.update()
            if game.crashed:
                break
        self._num_frames += 1
        reward = (game.distance - before) * physics.SCORE_PER_PIXEL + game.crashed * self._crash_reward
        truncated = not game.crashed and self._num_frames == self._max_frames
        self._running = not (game.crashed or truncated)
        return self._observe(), reward, game.crashed, truncated, self._info()

    def render(self) -> np.ndarray:
        """Return the recorded frame, uint8 [256 / downscale, 512 / downscale, 3]; the caller owns it."""
        return self._painter.paint(self._game, self._high_score, self._canvas)

    def view_frame(self) -> np.ndarray:
        """As `render`, but the env's own array, which the next step changes."""
        return self._painter.show(self._game, self._high_score, self._canvas)

    def _observe(self, is_first: bool = False) -> np.ndarray:
        if self._eye is None:
            return observe_state(self._game)
        self._canvas = self._eye.draw(self._game, self._high_score)
        seen = render.area_mean(self._canvas[_PIXEL_ROWS], 4)
        pixels = np.empty(PIXELS_SHAPE, np.uint8)
        pixels[:, :, 1] = np.invert(seen) if self._game.night else seen
        pixels[:, :, 0] = pixels[:, :, 1] if is_first else self._pixels[:, :, 1]
        self._pixels = pixels.copy()  # the caller owns what it gets
        return pixels

    def _info(self) -> dict[str, Any]:
        game = self._game
        return {
            "y": game.y,
            "velocity": game.velocity,
            "speed": game.speed,
            "distance": game.distance,
            "score": game.score,
            "jumping": game.jumping,
            "ducking": game.ducking,
            "night": game.night,
            "crashed": game.crashed,
            "draws": game.rng.draws,
            "obstacles": [
                {"type": o.kind.name, "x": o.x, "y": o.y, "size": o.size, "width": o.width} for o in game.obstacles
            ],
        }


def observe_state(game: physics.Game) -> np.ndarray:
    """Return what a player must know, float32 [17] clipped to [-1, 1].

    Speed, y, velocity, jumping, ducking; then for the next two obstacles that are not yet behind the T-rex: distance
    from its right edge, y, width, height, gap from the end of what comes before it, and the offset of its own speed.
    """
    state = [
        (game.speed - 9.5) / 3.5,
        game.y / (physics.GROUND_Y / 2) - 1,
        game.velocity / 12,
        float(game.jumping),
        float(game.ducking),
    ]
    front = end = game.x + physics.TREX_WIDTH
    ahead = [obstacle for obstacle in game.obstacles if obstacle.x + obstacle.width > game.x][:2]
    for o in ahead:
        own_speed = o.speed_offset / 0.8
        state += [(o.x - front) / 600, o.y / 100, o.width / 75, o.kind.height / 50, (o.x - end) / 600, own_speed]
        end = o.x + o.width
    state += [1.0, 0.0, 0.0, 0.0, 1.0, 0.0] * (2 - len(ahead))
    return np.clip(np.array(state, np.float32), -1, 1)


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1


def _check(what: str, value: Any, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"{what}, got {value!r}; expected {expected}.")
