"""Measures what long play leaves of a picture, for the README's table of DOOM.

`python -m tests.evaluate.measure_drift <run folder> [<model folder> ...]` plays 200 frames from held-out moments of the
run, standing still and with random actions. Reported is the PSNR of the regions that stand still, as an evaluation has
it (`static_psnr`), and where one stands still that of the whole picture against its first frame.
"""

from __future__ import annotations

import sys

import numpy as np

from gamengen import envs, metrics
from gamengen.engine import GameEngine
from gamengen.evaluate import held_out, rollouts
from gamengen.evaluate.held_out import Start

GAMES, FRAMES, REFERENCES = 8, (50, 100, 200), 400
HELD = 4  # frames for which a random action stays


def main(run: str, *models: str) -> None:
    for folder in models or (f"{run}/denoiser",):
        engine = GameEngine.from_pretrained(folder)
        game = engine.game
        episodes = held_out.load(f"{run}/gameplay", game, seed=0)
        seen = held_out.draw(episodes, REFERENCES, 4)
        references = game.visible(np.stack([start.future(1)[0] for start in seen]))
        regions = envs.load(game.name).PROBES.static_regions(*references.shape[1:3])
        starts = held_out.draw(episodes, GAMES, 1, after=engine.context_length, before_end=2)
        before = game.visible(np.stack([start.last for start in starts]))
        for mode in ("standing still", "random"):
            for count, frames in zip(FRAMES, _play(engine, starts, mode == "random"), strict=True):
                said = f"regions that stand still {rollouts.static_psnr(frames, references, regions)[0].mean():.1f} dB"
                if mode != "random":
                    said += f", the whole {metrics.psnr(frames, before).mean():.1f} dB"
                print(f"{folder}: {mode}, {count} frames: {said}", flush=True)


def _play(engine: GameEngine, starts: list[Start], random: bool) -> list[np.ndarray]:
    """Return the frames [GAMES, H, W, 3] after each number of FRAMES."""
    rng, kept = np.random.default_rng(0), []
    pasts, played = held_out.pasts(starts, engine.context_length)
    state = engine.begin(pasts, played, [start.seed for start in starts])
    actions = np.zeros(len(starts), dtype=int)
    for number in range(1, max(FRAMES) + 1):
        if random and number % HELD == 1:
            actions = rng.integers(0, engine.game.num_actions, len(starts))
        frames, state = engine.step(state, actions.tolist())
        if number in FRAMES:
            kept.append(frames)
    return kept


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
