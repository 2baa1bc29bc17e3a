"""Measures what long play leaves of a picture, for the README's table of DOOM.

`python -m tests.evaluate.measure_drift <run folder> [<model folder> ...]` plays 200 frames from held-out moments of the
run, standing still and with random actions. Reported is the PSNR of what has to stay as it is, which is everything
where one stands still in a game in which nothing else moves, and always the pixels that never change in the recorded
episode (of a status bar those without a number that counts).
"""

from __future__ import annotations

import sys

import numpy as np

from gamengen.engine import GameEngine
from gamengen.evaluate import held_out
from gamengen.evaluate.held_out import Start

GAMES, FRAMES, HELD = 8, (50, 100, 200), 4  # HELD: frames for which a random action stays


def main(run: str, *models: str) -> None:
    for folder in models or (f"{run}/denoiser",):
        engine = GameEngine.from_pretrained(folder)
        episodes = held_out.load(f"{run}/gameplay", engine.game, seed=0)
        starts = held_out.draw(episodes, GAMES, 1, after=engine.context_length, before_end=2)
        still = np.stack([_still(engine, start) for start in starts])
        for mode in ("standing still", "random"):
            games = dict(zip(FRAMES, _play(engine, starts, mode == "random"), strict=True))
            before = engine.game.visible(np.stack([start.last for start in starts]))
            for count, frames in games.items():
                fixed = _psnr(frames, before, still)
                whole = f", all {_psnr(frames, before, np.ones_like(still)):.1f} dB" if mode != "random" else ""
                print(f"{folder}: {mode}, {count} frames: what never changes {fixed:.1f} dB{whole}", flush=True)


def _still(engine: GameEngine, start: Start) -> np.ndarray:
    """Return which pixels never change in a moment's episode, bool [H, W]."""
    frames = engine.game.visible(start.episode.frames[: len(start.episode)])
    return (frames == frames[:1]).all((0, 3))


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


def _psnr(frames: np.ndarray, expected: np.ndarray, where: np.ndarray) -> float:
    """Return the mean over games of the PSNR of the pixels `where` [GAMES, H, W]."""
    squared = np.square((frames.astype(np.float32) - expected) / 255).mean(-1)
    return float(np.mean([-10 * np.log10(one[mask].mean()) for one, mask in zip(squared, where, strict=True)]))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
