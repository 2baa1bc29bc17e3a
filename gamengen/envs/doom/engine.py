"""One ViZDoom process: starts it, plays episodes in it, hands out its pictures; knows no reward and no action names."""

from __future__ import annotations

import dataclasses
import math
import mmap
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import vizdoom as vzd

from gamengen.envs import GameDied
from gamengen.envs.doom import actions, pooling
from gamengen.envs.doom.scenarios import PACKAGE, Level

HEIGHT, WIDTH = 240, 320
SUPERSAMPLING = (1, 2, 4, 5)  # the engine renders at no other multiple of the screen's size
TICS_PER_SECOND = 35
# The engine keeps how far the weapon swings from one episode to the next, and forgets it over 16 frames of standing
# still. So an episode begins after as many, and its frames depend on its seed alone.
SETTLE_TICS = 17
_MAX_SETTLE_TICS = 140

_TRYING = "GAMENGEN_DOOM_TRYING"  # set in a process that tries a level out
_MAX_TRY_SECONDS = 120
_STILL = [0.0] * len(actions.BUTTONS)
_DIED = (
    vzd.ViZDoomErrorException,
    vzd.ViZDoomIsNotRunningException,
    vzd.ViZDoomUnexpectedExitException,
    vzd.MessageQueueException,
)


class Engine:
    """Plays levels one after the other in a process of its own, which is started when it is first needed.

    Attributes:
        screen: uint8 [240, 320, 3] as it is now; a new array after every step.
        automap: uint8 [240, 320, 3], or None where it is not rendered or the episode has ended.
        labels: for `labels=True`, (name, category, x, y, width, height) of all that is to be seen.
        values: the wanted variables now, float64.
        reward: what the scenario paid for the last step.
        finished: dead, or the level left.
        pid: the process.
    """

    def __init__(
        self,
        variables: Sequence[vzd.GameVariable],
        automap: bool = False,
        labels: bool = False,
        supersampling: int = 1,
    ) -> None:
        self._variables, self._automap, self._labels = list(variables), automap, labels
        self._supersampling = supersampling
        self._folder = Path(tempfile.mkdtemp(prefix="gamengen-doom-"))
        self._games: list[vzd.DoomGame] = []  # the one that runs, or none
        self._clean_up = weakref.finalize(self, _clean_up, self._games, str(self._folder))
        self._process: tuple | None = None
        self._tried: set[Level] = set()
        self._map = ""
        self._memory: np.ndarray | None = None
        self.screen = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def start(self, level: Level, seed: int) -> None:
        """Begin an episode; everything random in it comes from `seed`.

        A process plays levels that differ in no more than their map. With bots each episode has its own: the engine
        carries bots over, and the same seed would play another game.

        Raises:
            ValueError: a WAD that is not shipped with ViZDoom, and with which the engine does not start.
            GameDied: the process has ended.
        """
        try:
            if not self._games or self._process != level.process or level.bots:
                self._launch(level, seed)
            game = self.running()
            if self._map != level.map:
                game.set_doom_map(level.map)
                self._map = level.map
            game.set_episode_start_time(level.start_tics)
            game.set_living_reward(level.living_reward)
            game.set_death_penalty(level.death_penalty)
            game.set_seed(seed)
            game.new_episode()
            for _ in range(level.bots):
                game.send_game_command("addbot")
            for tic in range(_MAX_SETTLE_TICS):
                if tic >= SETTLE_TICS and not (level.deathmatch and game.is_player_dead()):
                    break  # a bot that appears where the player stands kills them: they come back at once
                game.make_action(_STILL, 1)
            self._look()
        except _DIED as error:
            raise self._died(error) from None

    def step(self, pressed: Sequence[float], tics: int) -> None:
        """Hold buttons for some tics, or until the episode ends; raises GameDied if the process is gone."""
        try:
            self.reward = self.running().make_action(pressed, tics)
            self._look()
        except _DIED as error:
            raise self._died(error) from None

    def running(self) -> vzd.DoomGame:
        """Return ViZDoom's own object; raises GameDied where no process runs."""
        if not self._games:
            raise GameDied("no DOOM process runs; call reset() first.")
        return self._games[0]

    def close(self) -> None:
        """End the process and remove its files."""
        self._memory = None
        self._clean_up()

    def _look(self) -> None:
        """Take what the game shows; where ViZDoom gives no state, at an episode's end, out of its shared memory."""
        game = self.running()
        state = game.get_state()
        self.finished = state is None
        if state is not None:
            self.screen = pooling.mean(state.screen_buffer, self._supersampling)
            automap = state.automap_buffer
            self.automap = None if automap is None else pooling.maximum(automap, self._supersampling)
            self.labels = [self._on_screen(label) for label in state.labels or ()]
            self.values = state.game_variables
            return
        self.automap, self.labels = None, []
        self.values = np.array([game.get_game_variable(variable) for variable in self._variables])
        if self._memory is not None:
            self.screen = pooling.mean(self._memory.copy(), self._supersampling)

    def _on_screen(self, label: vzd.Label) -> tuple[str, str, int, int, int, int]:
        x, y, width, height = (n // self._supersampling for n in (label.x, label.y, label.width, label.height))
        return label.object_name, label.object_category, x, y, width, height

    def _launch(self, level: Level, seed: int) -> None:
        self._stop()
        if not level.is_shipped and level not in self._tried and _TRYING not in os.environ:
            try_out(level)
            self._tried.add(level)
        game = vzd.DoomGame()
        game.set_vizdoom_path(str(self._launcher()))
        game.set_doom_config_path(str(self._folder / "vizdoom.ini"))
        game.set_doom_game_path(level.iwad)
        if level.pwad is not None:
            game.set_doom_scenario_path(level.pwad)
        game.set_doom_map(level.map)
        game.set_doom_skill(level.skill)
        game.add_game_args("+am_colorset 1")  # the map's lines on black, as in DOOM; on grey they would hardly be seen
        if level.deathmatch:
            game.add_game_args("-deathmatch -nomonsters +sv_forcerespawn 1")
        size = f"{WIDTH * self._supersampling}X{HEIGHT * self._supersampling}"
        game.set_screen_resolution(vzd.ScreenResolution.__members__[f"RES_{size}"])
        game.set_screen_format(vzd.ScreenFormat.RGB24)
        game.set_render_hud(True)
        game.set_window_visible(False)
        game.set_mode(vzd.Mode.PLAYER)
        game.set_episode_timeout(0)  # the env counts: ViZDoom would withhold the last frame
        game.set_available_buttons([vzd.Button.__members__[name] for name in actions.BUTTONS])
        game.set_available_game_variables(self._variables)
        game.set_labels_buffer_enabled(self._labels)
        game.set_automap_buffer_enabled(self._automap)
        game.set_automap_mode(vzd.AutomapMode.NORMAL)  # what the player has seen, as on their own map
        game.set_automap_rotate(False)
        game.set_automap_render_textures(False)
        game.set_seed(seed)  # else the clock decides whether some maps, with several starts, can be started
        game.init()
        self._games.append(game)
        self._process, self._map = level.process, level.map
        self.pid = int((self._folder / "pid").read_text())
        self._memory = self._find_screen(game)

    def _launcher(self) -> Path:
        """Write what ViZDoom runs as its engine.

        It leaves the working folder alone, in which the engine would create `_vizdoom`, and ends with this process
        even where that is killed.
        """
        file = self._folder / "vizdoom.sh"
        folder, engine = shlex.quote(str(self._folder)), shlex.quote(str(PACKAGE / "vizdoom"))
        ends_with_us = "setpriv --pdeathsig KILL " if shutil.which("setpriv") else ""
        file.write_text(f'#!/bin/sh\ncd {folder} && echo $$ > pid && exec {ends_with_us}{engine} "$@"\n')
        file.chmod(0o700)
        return file

    def _find_screen(self, game: vzd.DoomGame) -> np.ndarray | None:
        """Return a view of the screen in the engine's shared memory, where the system shows that as a file.

        ViZDoom keeps the frame of a death and of a level's end to itself. Its place in the memory is found by its
        content, so that it does not matter how a version of ViZDoom lays the memory out. Without it (not on Linux) an
        episode ends with the frame before.
        """
        file = Path("/dev/shm") / f"ViZDoomSM{game.get_instance_id()}"
        state = game.get_state()
        if not file.exists() or state is None:
            return None
        with open(file, "rb") as opened:
            memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        place = memory.find(state.screen_buffer.tobytes())
        if place < 0:
            return None
        shape = state.screen_buffer.shape
        return np.frombuffer(memory, np.uint8, math.prod(shape), place).reshape(shape)

    def _died(self, error: Exception) -> GameDied:
        self._stop()
        return GameDied(
            f"the DOOM process has ended ({error}) The episode in play is lost; reset() starts a new process."
        )

    def _stop(self) -> None:
        self._memory = None
        while self._games:
            self._games.pop().close()


def try_out(level: Level) -> None:
    """Start a level in a Python of its own: where the engine refuses a WAD, ViZDoom takes the whole process with it.

    Raises:
        ValueError: the engine does not start on it.
    """
    fields = repr(dataclasses.asdict(level))
    code = f"from gamengen.envs.doom import engine, scenarios; engine.Engine([]).start(scenarios.Level(**{fields}), 0)"
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths, _TRYING: "1"},
        capture_output=True,
        timeout=_MAX_TRY_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        wad = level.pwad or level.iwad
        raise ValueError(
            f"level, got {level.name!r}, on which the engine does not start with {wad}; expected a map for DOOM or "
            "ZDoom 2.8. Try the WAD in a ZDoom of your own, or take another map."
        )


def _clean_up(games: list[vzd.DoomGame], folder: str) -> None:
    """End the process, which writes its settings last, and remove its files."""
    while games:
        games.pop().close()
    shutil.rmtree(folder, ignore_errors=True)
