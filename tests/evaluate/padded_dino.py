"""The dinosaur game between rows of padding that are not even black: whoever looks at them is found out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from gamengen.envs import chrome_dino
from gamengen.envs.chrome_dino import PROBES, SCRIPTED, ChromeDinoEnv

ABOVE, BELOW = 16, 8
SPEC = dataclasses.replace(
    chrome_dino.SPEC, height=chrome_dino.SPEC.height + ABOVE + BELOW, padding=(ABOVE, BELOW), name=__name__
)

__all__ = ["PROBES", "SCRIPTED", "SPEC", "make"]


class PaddedDino(ChromeDinoEnv):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        height = self.game_spec.height + ABOVE + BELOW
        self.game_spec = dataclasses.replace(self.game_spec, height=height, padding=(ABOVE, BELOW), name=__name__)
        self._noise = np.random.default_rng(0)

    def render(self) -> np.ndarray:
        frame = self._noise.integers(0, 256, (self.game_spec.height, self.game_spec.width, 3), np.uint8)
        frame[self.game_spec.visible_rows] = super().render()
        return frame


def make(**options: Any) -> PaddedDino:
    return PaddedDino(**options)
