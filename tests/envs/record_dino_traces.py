"""Record `data/dino_traces.json.gz` from an installed Chromium: `python tests/envs/record_dino_traces.py`.

The file in the repository was recorded in November 2026 with Chromium 156.0.8078.79. Only the rules' constants are
Chromium's; the file holds numbers that its game computed, no code and no pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gamengen.envs.chrome_dino import ScriptedPolicy, make, trace
from gamengen.envs.chrome_dino.browser import BrowserDino

PATH = Path(__file__).parent / "data" / "dino_traces.json.gz"
IMMORTAL = {101: 8000, 102: 5000, 103: 5000}  # seed: updates; top speed comes at 7,000
MORTAL = {201: 0.0, 202: 0.0, 203: 0.002, 204: 0.01, 205: 0.02, 206: 0.05}  # seed: slips per update


def random_actions(seed: int, num_updates: int) -> list[int]:
    """Hold random keys for random times, short and long."""
    rng = np.random.default_rng(seed)
    actions: list[int] = []
    while len(actions) < num_updates:
        actions += [int(rng.choice(3, p=(0.6, 0.25, 0.15)))] * int(rng.integers(1, 25))
    return actions[:num_updates]


def scripted_actions(seed: int, slips: float, num_updates: int = 6000) -> list[int]:
    """Let the scripted player play our game update by update, with slips of the finger; returns its actions."""
    env = make(frame_tics=1, observation="state", max_frames=num_updates)
    rng = np.random.default_rng(seed)
    policy = ScriptedPolicy(skill=1.0)
    policy.reset(rng)
    _, info = env.reset(options={"mulberry32": seed})
    actions: list[int] = []
    slip, slip_left, over = 0, 0, False
    while not over:
        if len(actions) % 3 == 0:
            action = policy.action(info)
        if slip_left == 0 and rng.random() < slips:
            slip, slip_left = int(rng.integers(3)), int(rng.integers(1, 8))
        slip_left = max(0, slip_left - 1)
        actions.append(slip if slip_left else action)
        _, _, terminated, truncated, info = env.step(actions[-1])
        over = terminated or truncated
    return actions


def main() -> None:
    games = [(seed, True, random_actions(seed, count)) for seed, count in IMMORTAL.items()]
    games += [(seed, False, scripted_actions(seed, slips)) for seed, slips in MORTAL.items()]
    traces = []
    for immortal in (True, False):
        browser = BrowserDino(immortal=immortal)
        for seed, _, actions in (game for game in games if game[1] == immortal):
            browser.reset(options={"mulberry32": seed})
            rows = browser.trace(actions)
            traces.append(trace.summarise(seed, immortal, actions[: len(rows)], rows))
            print(f"seed {seed}: {len(rows)} updates, {len(traces[-1].hits)} hits")
        version = browser.version
        browser.close()
    trace.save(PATH, version, traces)
    print(f"{PATH}: {sum(len(t.ys) for t in traces)} updates, {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
