"""What the autoencoder keeps of small things such as a status bar, before and after its decoder was tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gamengen import envs, metrics, storage
from gamengen.checkpoint import Model
from gamengen.config import Config
from gamengen.evaluate import held_out, statistics
from gamengen.models import autoencoders

NUM_FRAMES = 48
NUM_PICTURES = 4
FOLDERS = {"before": "autoencoder", "after": "decoder"}  # of the run: the stage `decoder` goes on from the first
Regions = Mapping[str, tuple[slice, slice]]


@dataclass(frozen=True)
class Decoded:
    """Recorded frames and what the autoencoders make of them, uint8 [N, visible H, W, 3], by "before" and "after"."""

    recorded: np.ndarray
    made: Mapping[str, np.ndarray]
    regions: Regions


def regions_of(config: Config) -> Regions:
    """Return rows and columns of what the game says is small and matters, in frames without padding."""
    regions: Callable[[int, int], Regions] | None = getattr(envs.load(config.game.name), "REGIONS", None)
    game = config.game_spec().unpadded()
    return regions(game.height, game.width) if regions else {}


def measure(config: Config) -> Decoded | None:
    """Send held-out frames through the run's autoencoder and its tuned decoder; None where neither is there."""
    folders = {when: f"{config.folder}/{name}" for when, name in FOLDERS.items()}
    folders = {when: folder for when, folder in folders.items() if storage.exists(f"{folder}/game.json")}
    if not folders:
        return None
    game, device = config.game_spec(), "cuda" if config.evaluate.use_gpu else "cpu"
    episodes = held_out.load(f"{config.folder}/gameplay", game, config.seed)
    starts = held_out.draw(episodes, NUM_FRAMES, config.seed + 7)
    frames = torch.from_numpy(np.stack([start.last for start in starts]))
    made = {}
    for when, folder in folders.items():
        autoencoder = Model.from_pretrained(folder).autoencoder.to(device)
        parts = [autoencoders.reconstruct(autoencoder, part.to(device)).cpu() for part in frames.split(8)]
        made[when] = game.visible(torch.cat(parts).numpy())
    return Decoded(game.visible(frames.numpy()), made, regions_of(config))


def figures_of(decoded: Decoded | None) -> dict[str, dict[str, Any]] | None:
    """Return PSNR in dB of whole frames and of each region, before and after, with intervals."""
    if decoded is None:
        return None
    whole = (slice(None), slice(None))
    figures: dict[str, dict[str, Any]] = {}
    for name, (rows, columns) in {"whole frame": whole, **decoded.regions}.items():
        values = {
            when: metrics.psnr(frames[:, rows, columns], decoded.recorded[:, rows, columns])
            for when, frames in decoded.made.items()
        }
        if len(values) == 2:
            values["gain"] = values["after"] - values["before"]
        figures[name] = {when: statistics.mean(part) for when, part in values.items()}
        figures[name]["intervals"] = {when: statistics.interval(part) for when, part in values.items()}
    return figures


def crops(decoded: Decoded) -> dict[str, list[Sequence[np.ndarray]]]:
    """Return for each region rows of crops for the page: recorded, before, after."""
    return {
        name: [
            [frames[number][rows, columns] for frames in (decoded.recorded, *decoded.made.values())]
            for number in range(min(NUM_PICTURES, len(decoded.recorded)))
        ]
        for name, (rows, columns) in decoded.regions.items()
    }
