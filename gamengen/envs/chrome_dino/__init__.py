"""Chromium's dinosaur game: exact rules in Python, our own pixel art, and the real thing in `browser.py` to check it.

`SPEC` and `make` are the game's contract; `SCRIPTED` makes a player without learning, for recording and for tests, and
`PROBES` is what evaluation may ask of a frame.
"""

from __future__ import annotations

from typing import Any

from gamengen.envs.chrome_dino import probes as PROBES
from gamengen.envs.chrome_dino.env import SPEC, ChromeDinoEnv
from gamengen.envs.chrome_dino.policies import ScriptedPolicy

SCRIPTED = ScriptedPolicy

__all__ = ["PROBES", "SCRIPTED", "SPEC", "ChromeDinoEnv", "ScriptedPolicy", "make"]


def make(**options: Any) -> ChromeDinoEnv:
    """Make the env; the options are the arguments of `ChromeDinoEnv`."""
    return ChromeDinoEnv(**options)
