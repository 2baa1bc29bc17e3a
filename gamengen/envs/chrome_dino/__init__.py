"""Chromium's dinosaur game: exact rules in Python, our own pixel art, and the real thing in `browser.py` to check it.

`SPEC` and `make` are the game's contract; `SCRIPTED` makes a player without learning, for recording and for tests, and
`PROBES` and `REGIONS` are what evaluation may ask of a frame; `UNOBSERVED` saves the agent's picture for who does not
look, and `LICENCE` says whose the pictures are.
"""

from __future__ import annotations

from gamengen.envs.chrome_dino import probes as PROBES
from gamengen.envs.chrome_dino.env import SPEC, ChromeDinoEnv
from gamengen.envs.chrome_dino.policies import ScriptedPolicy

SCRIPTED = ScriptedPolicy
make = ChromeDinoEnv  # its arguments are the game's options
UNOBSERVED = {"observation": "state"}
LICENCE = {"id": "mit", "text": "The pictures that it learnt are gamengen's own pixel art, under the MIT licence."}

__all__ = ["LICENCE", "PROBES", "REGIONS", "SCRIPTED", "SPEC", "UNOBSERVED", "ChromeDinoEnv", "ScriptedPolicy", "make"]


def REGIONS(height: int, width: int) -> dict[str, tuple[slice, slice]]:
    """Return rows and columns of the score."""
    return {"score": PROBES.static_regions(height, width)["score"]}
