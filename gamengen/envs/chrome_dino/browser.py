"""The real game in headless Chromium, driven update by update through Playwright: the measure of our own rules.

Needs the extra `browser` (Playwright) and an installed Chromium or Chrome. Nothing else imports this module. The page
is `chrome://dino`; its random numbers, clock and frames are replaced before its script runs, keys are real events.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import shutil
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright

from gamengen.envs.chrome_dino import physics, render
from gamengen.envs.chrome_dino.env import SPEC, STATE_SIZE, observe_state
from gamengen.envs.chrome_dino.obstacles import OBSTACLE_TYPES, WORLD_WIDTH

_EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--no-sandbox",  # needed by root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--force-device-scale-factor=1",
]
_VIEWPORT = {"width": 1200, "height": 600}  # smaller ones shrink the canvas below 600; resizing breaks the game

# Before the page's script: our generator, clock and frames. `update` makes the browser see exactly dt: with the last
# frame's time at the smallest positive double, now - time is dt to the last bit.
_INIT = """(() => {
  const D = window.__dino = {now: 1000, queue: [], id: 1, state: 0, draws: 0, held: 0, hit: false, immortal: false};
  performance.now = () => D.now;
  window.requestAnimationFrame = callback => { D.queue.push([D.id, callback]); return D.id++; };
  window.cancelAnimationFrame = id => { D.queue = D.queue.filter(entry => entry[0] !== id); };
  Math.random = () => {
    D.draws++;
    D.state = (D.state + 0x6D2B79F5) | 0;
    let t = Math.imul(D.state ^ D.state >>> 15, D.state | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
  D.key = (type, keyCode) =>
    document.dispatchEvent(new KeyboardEvent(type, {keyCode, bubbles: true, cancelable: true}));
  D.flush = now => { const queue = D.queue; D.queue = []; for (const [, callback] of queue) callback(now); };
  D.step = dt => { D.now += dt; D.flush(D.now); };
  D.hold = action => {
    if (action === D.held) return;
    const code = [0, 38, 40], old = D.held;
    D.held = action;
    if (old) D.key('keyup', code[old]);
    if (action) D.key('keydown', code[action]);
  };
  D.update = dt => {
    const kept = D.now, R = runnerInstance;
    D.hit = false;
    R.time = Number.MIN_VALUE;
    D.now = dt;
    D.flush(dt);
    D.now = kept + dt;
    if (R.crashed) R.time = D.now;
  };
})()"""

# Once: the first game, whose two loops run at double speed, up to where a crash and a restart can end it.
_FIRST_GAME = """() => {
  const D = window.__dino, R = runnerInstance, dt = 1000 / 60;
  const proto = Object.getPrototypeOf(R), check = proto.checkForCollision;
  proto.checkForCollision = function (...args) {
    const boxes = check.apply(this, args);
    D.hit = Boolean(boxes);
    return D.immortal ? null : boxes;
  };
  D.key('keydown', 32);
  D.key('keyup', 32);
  for (let i = 0; i < 200 && !R.playingIntro; i++) D.step(dt);
  for (let i = 0; i < 24; i++) D.step(dt);
  R.startGame();
  R.highestScore = 1e12;  // never beaten: no "HI" appears
}"""

# The canonical start: a restart by the Enter key, then everything that Chromium carries over put back, then the seed.
_RESET = """([seed, immortal]) => {
  const D = window.__dino, R = runnerInstance, H = R.horizon, M = R.distanceMeter, cloud = H.clouds[0];
  if (!R.crashed) R.gameOver();
  D.key('keyup', 40);
  D.key('keyup', 38);
  D.step(1000 / 60);
  D.step(1500);
  M.highScore = '';
  D.key('keyup', 13);
  D.held = 0;
  D.hit = false;
  D.immortal = immortal;
  H.obstacleHistory.length = 0;
  H.clouds = [H.clouds[0] || cloud];
  Object.assign(H.clouds[0], {xPos: 600, yPos: 71, gap: 118, remove: false});
  Object.assign(H.nightMode, {xPos: 0, currentPhase: 0});
  H.horizonLines[0].sourceXPos = [2, 602];
  Object.assign(R.tRex, {timer: 0, currentFrame: 0});
  Object.assign(M, {flashTimer: 0, flashIterations: 0});
  Object.assign(D, {state: seed | 0, draws: 0});
  return D.queue.length === 1 && !R.crashed && R.canvas.width === 600;
}"""

_INFO = """() => {
  const D = window.__dino, R = runnerInstance, T = R.tRex;
  return {
    y: T.yPos, velocity: T.jumpVelocity, speed: R.currentSpeed, distance: R.distanceRan,
    score: R.distanceMeter.getActualDistance(Math.ceil(R.distanceRan)),
    jumping: T.jumping, ducking: T.ducking, night: R.inverted, crashed: R.crashed, draws: D.draws,
    obstacles: R.horizon.obstacles.map(o => ({
      type: o.typeConfig.type, x: o.xPos, y: o.yPos, size: o.size, width: o.width, speed_offset: o.speedOffset})),
  };
}"""

_STEP = f"""([action, tics, dt]) => {{
  const D = window.__dino;
  D.hold(action);
  for (let i = 0; i < tics && !runnerInstance.crashed; i++) D.update(dt);
  return ({_INFO})();
}}"""

# The row of trace.COLUMNS after every update.
_TRACE = """([actions, dt]) => {
  const D = window.__dino, R = runnerInstance, T = R.tRex, H = R.horizon, N = H.nightMode, M = R.distanceMeter;
  const L = H.horizonLines[0], types = ['cactusSmall', 'cactusLarge', 'pterodactyl'], rows = [];
  for (const action of actions) {
    D.hold(action);
    D.update(dt);
    const row = [
      T.yPos, T.jumpVelocity, R.currentSpeed, R.distanceRan, T.status, T.currentFrame, T.timer, T.jumping, T.ducking,
      D.hit, D.draws, R.inverted, R.invertTimer, N.opacity, N.xPos, N.currentPhase, L.xPos[0], L.xPos[1],
      L.sourceXPos[0] > 2, L.sourceXPos[1] > 2, M.digits.join(''), M.achievement, M.flashTimer, M.flashIterations,
      H.obstacles.length, H.clouds.length];
    for (const o of H.obstacles)
      row.push(types.indexOf(o.typeConfig.type), o.size, o.xPos, o.yPos, o.gap, o.currentFrame);
    for (const cloud of H.clouds) row.push(cloud.xPos, cloud.yPos, cloud.gap);
    if (N.opacity > 0) for (const star of N.stars) row.push(star.x, star.y);
    rows.push(row.map(Number));
    if (R.crashed) break;
  }
  return rows;
}"""

# The canvas is transparent where nothing is drawn; the page under it is white.
_PIXELS = """() => {
  const canvas = runnerInstance.canvas;
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const grey = new Uint8Array(data.length / 4);
  for (let i = 0; i < grey.length; i++)
    grey[i] = 255 + (data[4 * i] - 255) * data[4 * i + 3] / 255 + 0.5;
  let text = '';
  for (let i = 0; i < grey.length; i += 8192) text += String.fromCharCode(...grey.subarray(i, i + 8192));
  return btoa(text);
}"""


class BrowserDino(gymnasium.Env[np.ndarray, np.int64]):
    """Chromium's own game behind the interface of `ChromeDinoEnv(observation="state")`.

    Playwright's synchronous interface allows one of these per thread. Obstacles in `info` have `speed_offset` besides.

    Args:
        frame_tics: updates of 1/60 s per frame.
        executable_path: the browser; by default GAMENGEN_CHROMIUM or the first of chromium, chromium-browser,
            google-chrome on the PATH.
        immortal: go on through every hit.

    Raises:
        FileNotFoundError: no browser.
        RuntimeError: the browser's game cannot be driven this way (it may have changed).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": SPEC.frames_per_second}  # noqa: RUF012 (gymnasium's name)

    def __init__(
        self, frame_tics: int = SPEC.tics_per_frame, executable_path: str | None = None, immortal: bool = False
    ) -> None:
        self.render_mode = "rgb_array"
        self.game_spec = dataclasses.replace(
            SPEC, frames_per_second=physics.UPDATES_PER_SECOND / frame_tics, tics_per_frame=frame_tics
        )
        self.action_space = gymnasium.spaces.Discrete(SPEC.num_actions)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (STATE_SIZE,), np.float32)
        self._immortal = immortal
        self._distance = 0.0
        self._playwright = self._browser = None
        executable = find_browser(executable_path)
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(executable_path=executable, args=_FLAGS)
            self._page = self._browser.new_context(viewport=_VIEWPORT).new_page()
            self._open_game()
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> str:
        """The browser's version."""
        assert self._browser is not None
        return self._browser.version

    def set_immortal(self, immortal: bool) -> None:
        """Say whether the games from the next reset on go on through every hit."""
        self._immortal = immortal

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Go to the canonical start; `options={"mulberry32": n}` as in `ChromeDinoEnv.reset`."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**32))
        number = int((options or {}).get("mulberry32", drawn))
        if not self._page.evaluate(_RESET, [number, self._immortal]):
            raise RuntimeError(f"Chromium {self.version}: no single loop on a canvas of 600 px after a restart.")
        info = self._page.evaluate(_INFO)
        self._distance = info["distance"]
        return _observe(info), info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold the action's key for one frame; a crash ends the frame early."""
        info = self._page.evaluate(_STEP, [int(action), self.game_spec.tics_per_frame, physics.DT])
        reward = (info["distance"] - self._distance) * physics.SCORE_PER_PIXEL
        self._distance = info["distance"]
        return _observe(info), reward, info["crashed"], False, info

    def trace(self, actions: Sequence[int], batch: int = 500) -> list[list[float]]:
        """Play one action per update and return the row of `trace.COLUMNS` after each, up to a crash."""
        rows: list[list[float]] = []
        for start in range(0, len(actions), batch):
            part = [int(action) for action in actions[start : start + batch]]
            rows += self._page.evaluate(_TRACE, [part, physics.DT])
            if len(rows) < start + len(part):
                break
        return rows

    def render(self) -> np.ndarray:
        """Return the canvas as our frame, uint8 [256, 512, 3]: on white, the score moved left, inverted at night."""
        data = base64.b64decode(self._page.evaluate(_PIXELS))
        canvas = np.frombuffer(data, np.uint8).reshape(render.STRIP_HEIGHT, WORLD_WIDTH)
        page = np.full((render.HEIGHT, render.WIDTH), 255, np.uint8)
        strip = page[render.STRIP_TOP : render.STRIP_TOP + render.STRIP_HEIGHT]
        strip[:] = canvas[:, : render.WIDTH]
        top = slice(0, 30)  # nothing but the score is that high, there
        strip[top, 300 : render.WIDTH] = canvas[top, 300 + render.SCORE_SHIFT :]
        if self._page.evaluate("() => runnerInstance.inverted"):
            page = np.invert(page)
        return page[:, :, None].repeat(3, axis=2)

    def close(self) -> None:
        """Close the browser; a second call does nothing."""
        if self._browser is not None:
            self._browser.close()
        if self._playwright is not None:
            self._playwright.stop()
        self._browser = self._playwright = None

    def _open_game(self) -> None:
        self._page.add_init_script(_INIT)
        try:
            self._page.goto("chrome://dino/")
        except PlaywrightError as error:  # the page *is* the error page
            if "ERR_INTERNET_DISCONNECTED" not in str(error):
                raise
        try:
            self._page.wait_for_url("chrome-error://**")
            self._page.wait_for_selector("canvas", state="attached", timeout=10_000)
            self._page.evaluate("() => runnerInstance.tRex.yPos + runnerInstance.horizon.horizonLines[0].yPos")
            self._page.evaluate(_FIRST_GAME)
        except PlaywrightError as error:
            raise RuntimeError(f"Chromium {self.version} has no game that we can drive: {error}") from error


def find_browser(executable_path: str | None = None) -> str:
    """Return the path of a browser; raises FileNotFoundError."""
    wanted = executable_path or os.environ.get("GAMENGEN_CHROMIUM")
    found = shutil.which(wanted) if wanted else next(filter(None, map(shutil.which, _EXECUTABLES)), None)
    if found is None:
        raise FileNotFoundError(
            f"no Chromium, got {wanted or 'nothing'!r}; expected one of {', '.join(_EXECUTABLES)} on the PATH. "
            "Install it, or set GAMENGEN_CHROMIUM to its path."
        )
    return found


def _observe(info: dict[str, Any]) -> np.ndarray:
    kinds = {kind.name: kind for kind in OBSTACLE_TYPES}
    obstacles = [SimpleNamespace(**o, kind=kinds[o["type"]]) for o in info["obstacles"]]
    return observe_state(SimpleNamespace(**{**info, "obstacles": obstacles, "x": physics.TREX_X}))
