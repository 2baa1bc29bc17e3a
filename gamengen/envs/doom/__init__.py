"""DOOM on ViZDoom: Freedoom or your own WAD, the paper's actions, observation and reward.

`SPEC` and `make` are the game's contract; `SCRIPTED` makes a player without learning, for recording and for tests;
`play_raw` is the engine's own loop, for the benchmark, and `UNOBSERVED` saves the automap for who does not look;
`REGIONS` and `PROBES` tell an evaluation where the status bar is and what a frame shows, and `LICENCE` says whose the
pictures are.
"""

from __future__ import annotations

from gamengen.envs.doom import probes
from gamengen.envs.doom.env import SPEC, DoomEnv
from gamengen.envs.doom.policies import ScriptedPolicy
from gamengen.envs.doom.raw import play_raw

SCRIPTED = ScriptedPolicy
PROBES = probes
make = DoomEnv  # its arguments are the game's options
UNOBSERVED = {"observation": "none"}
LICENCE = {
    "id": "bsd-3-clause",
    "text": "The pictures that it learnt are Freedoom's, copyright the contributors to the Freedoom project, under "
    "the BSD 3-clause licence (freedoom.github.io), as ViZDoom (MIT) plays them. Where the run's `game.options` name a "
    "`wad`, they are that one's instead, and its licence holds: what is sold may not be given away.",
}

__all__ = [
    "LICENCE",
    "PROBES",
    "REGIONS",
    "SCRIPTED",
    "SPEC",
    "UNOBSERVED",
    "DoomEnv",
    "ScriptedPolicy",
    "make",
    "play_raw",
]


def REGIONS(height: int, width: int) -> dict[str, tuple[slice, slice]]:
    """Return rows and columns of the status bar: the last 32 of 240 rows."""
    return dict(probes.static_regions(height, width))
