"""Measures codecs and recording on real play, for the README's tables.

`python -m tests.data.measure_codecs` plays Chrome Dino, `python -m tests.data.measure_codecs MAP01` a level of DOOM.
"""

import io
import sys
import time

import numpy as np
import pyarrow.parquet as pq

from gamengen import config as configs
from gamengen.collect import policies
from gamengen.collect.recording import Origin
from gamengen.collect.rollouts import play_item
from gamengen.collect.writer import PARQUET
from gamengen.data import chunk as chunks
from gamengen.data import codec as codecs

CODECS = ("delta-zstd", "palette-zstd", "png", "jpeg90", "jpeg95", "h264-crf18", "h264-crf23", "h264-lossless")
ITEM = ["collect.max_episode_frames=800", "storage=/nowhere"]
DOOM = ["game.name=doom", "agent.observation=none"]


def measure(codec: str, frames: np.ndarray) -> str:
    """Return a row of the table; the time is CPU time of one core, the best of three."""
    parts = [frames[start : start + 64] for start in range(0, len(frames), 64)]
    encode, decode = [], []
    for _ in range(3):
        begun = time.process_time()
        data = [codecs.encode(part, codec, 20.0) for part in parts]
        between = time.process_time()
        decoded = [codecs.decode(part, codec, 64, "x") for part in data]
        encode.append(between - begun)
        decode.append(time.process_time() - between)
    error = np.mean([(a.astype(np.float32) - b) ** 2 for a, b in zip(decoded, parts, strict=True)])
    quality = f"{10 * np.log10(255**2 / error):.1f} dB" if error else "lossless"
    size, count = sum(map(len, data)) / len(frames), len(frames)
    cost = (f"{1000 * min(seconds) / count:.3f}" for seconds in (encode, decode))
    return f"`{codec}` | {size:.0f} | {quality} | {' | '.join(cost)}"


def rates(config: configs.Config) -> tuple[float, float]:
    """Return frames/s of the game alone (with `render`), and with codec and Parquet; the same play both times."""
    env = policies.make_env(config)
    policy = policies.make("scripted", config, config.game_spec())
    alone, recorded = [], []
    for _ in range(3):
        begun, count = time.process_time(), 0
        rows = play_item(env, policy, config.collect, Origin("r", "n", "scripted"), 1)
        pq.write_table(rows, io.BytesIO(), **PARQUET)
        recorded.append(sum(rows["num_frames"].to_pylist()) / (time.process_time() - begun))
        begun = time.process_time()
        observation, info = env.reset(seed=1)
        policy.reset(np.random.default_rng(0))
        while count < 800:
            observation, _, terminated, truncated, info = env.step(policy.action(observation, info))
            env.render()
            count += 1
            if terminated or truncated:
                observation, info = env.reset()
        alone.append(count / (time.process_time() - begun))
    return max(alone), max(recorded)


def play(config: configs.Config) -> np.ndarray:
    """Return 512 frames of scripted play, uint8 [512, H, W, 3]."""
    env = policies.make_env(config)
    policy = policies.make("scripted", config, env.unwrapped.game_spec)
    rows = play_item(env, policy, config.collect, Origin("r", "n", "scripted"), 1).to_pylist()
    env.close()
    whole = [chunks.from_row(row).frames for row in rows if row["num_frames"] == 64]
    return np.concatenate(whole[:8])


def main() -> None:
    levels = sys.argv[1:]
    doom = [[*DOOM, f"game.options={{levels: {level}, labels: true}}"] for level in levels]
    dino = [[f"game.options={{downscale: {downscale}}}"] for downscale in (1, 2)]
    for number, overrides in enumerate(doom or dino):
        config = configs.load("configs/quickstart.yaml", [*ITEM, *overrides])
        frames = play(config)
        name = levels[number] if levels else f"{frames.shape[2]}x{frames.shape[1]}"
        for codec in CODECS:
            print(f"| {name} | {measure(codec, frames)} |", flush=True)
        if not levels:
            print("game alone {:.0f} frames/s, recorded {:.0f} frames/s".format(*rates(config)), flush=True)


if __name__ == "__main__":
    main()
