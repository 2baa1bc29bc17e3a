"""Whether what is in the real game (enemies, items) is still in a model's pictures after hundreds of frames.

A small network learns from the real game, whose engine tells what is on the screen, where things of each kind are. The
same network then looks at generated frames and at real ones of the same age, so that what it misses, it misses in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamengen import envs
from gamengen.config import Config
from gamengen.data.shards import Episode
from gamengen.envs import Contents
from gamengen.evaluate import held_out, kept, statistics
from gamengen.evaluate.held_out import Start
from gamengen.progress import Progress

EVERY = 10  # frames between two looks
_ROWS = 120  # of the frames that the network sees
_CELL = 8  # pixels of them along each side of a place at which something is or is not
_NUM_FRAMES = 4000  # played to learn from; the last quarter of them shows how well
_STEPS, _BATCH, _LEARNING_RATE = 250, 24, 4e-3
_POSITIVE_WEIGHT = torch.tensor(4.0)


class ContentsNetwork(nn.Module):
    """Frames -> for each kind and place, the logit of a thing of that kind there."""

    def __init__(self, num_kinds: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, 32, 1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, num_kinds, 1),
        )
        nn.init.constant_(self.layers[-1].bias, -3.0)  # most places are empty
        self.register_buffer("threshold", torch.zeros(num_kinds))  # of a frame's highest logit, to call a kind present

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B, h, w, 3], see `shrink` -> [B, kinds, h / 8, w / 8]."""
        return self.layers(frames.movedim(-1, 1).float() / 127.5 - 1)

    @torch.inference_mode()
    def seen(self, frames: np.ndarray) -> np.ndarray:
        """Return which kinds are anywhere in frames without padding, uint8 [N, H, W, 3] -> bool [N, kinds]."""
        device = next(self.parameters()).device
        parts = np.array_split(frames, 1 + len(frames) // 32)
        highest = [self(torch.from_numpy(shrink(part)).to(device)).amax((2, 3)) for part in parts]
        return (torch.cat(highest) > self.threshold).cpu().numpy()


@dataclass
class Seen:
    """What the network saw every `EVERY` frames of N games: bool [N, looks, kinds], and frames evenly over the games,
    uint8 [N, snapshots, H, W, 3]."""

    seen: np.ndarray
    snapshots: np.ndarray


def offered(config: Config) -> Contents | None:
    """Return what the game tells of its pictures."""
    return getattr(envs.load(config.game.name), "CONTENTS", None)


def prepare(config: Config) -> dict[str, Any] | None:
    """Learn and keep the network of a run, in `contents/`; None for a game that tells nothing, or without rollouts.

    Returns:
        by kind, how the network does on real frames that it has not learnt from (recall, false_alarms), and in what
        share of them there is such a thing (present) and it says so (seen).
    """
    if offered(config) is None or not config.evaluate.num_rollouts:
        return None
    wanted = {
        "game": {"name": config.game.name, **config.game.options},
        "seed": config.seed,
        "frames": config.evaluate.rollout_frames,
    }
    return dict(kept.prepare(f"{config.folder}/contents", wanted, lambda: _learn(config)))


def load(config: Config) -> ContentsNetwork | None:
    """Load what `prepare` has made."""
    game = offered(config)
    if game is None or not config.evaluate.num_rollouts:
        return None
    return kept.load(f"{config.folder}/contents", ContentsNetwork(len(game.KINDS)), use_gpu=config.evaluate.use_gpu)


def shrink(frames: np.ndarray) -> np.ndarray:
    """Average frames uint8 [N, H, W, 3] down to 120 rows."""
    height, width = frames.shape[1:3]
    size = (_ROWS, _CELL * round(_ROWS * width / height / _CELL))
    images = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).float()
    return F.interpolate(images, size, mode="area").round().to(torch.uint8).movedim(1, -1).contiguous().numpy()


def measure(
    engine: Any,
    starts: Sequence[Start],
    actions: Sequence[np.ndarray],
    network: ContentsNetwork,
    batch_size: int,
    name: str,
) -> Seen | None:
    """Play a model on from each moment with its actions [T], and look at the games every `EVERY` frames."""
    if not starts:
        return None
    parts = []
    for first in range(0, len(starts), batch_size):
        batch = slice(first, first + batch_size)
        parts.append(_look(engine, starts[batch], np.stack(actions[batch], axis=1), network, name))
    return Seen(*(np.concatenate([getattr(part, field) for part in parts]) for field in ("seen", "snapshots")))


def _look(engine: Any, starts: Sequence[Start], actions: np.ndarray, network: ContentsNetwork, name: str) -> Seen:
    pasts, played = held_out.pasts(starts, engine.context_length)
    state = engine.begin(pasts, played, [start.seed for start in starts])
    looks, snapshots = [], [engine.game.visible(pasts[:, -1])]
    progress = Progress(f"{name}, contents", actions.size, "frames")
    every = max(1, len(actions) // 10)
    for step, keys in enumerate(actions, start=1):
        latents, state = engine.step_latents(state, keys.tolist())
        if step % EVERY == 0 or step % every == 0:
            frames = engine.decode(latents)
            if step % EVERY == 0:
                looks.append(network.seen(frames))
            if step % every == 0:
                snapshots.append(frames)
        progress.tell(step * len(starts))
    return Seen(np.stack(looks, axis=1), np.stack(snapshots, axis=1))


def actions_from(starts: Sequence[Start], episodes: Sequence[Episode], count: int) -> np.ndarray:
    """Return the recorded actions from each moment on, int64 [count, N]; after an episode's end, those of others."""
    columns = []
    for number, start in enumerate(starts):
        parts, total = [start.episode.actions[start.frame - 1 :]], len(start.episode.actions) - start.frame + 1
        while total < count:
            number += 1
            parts.append(episodes[number % len(episodes)].actions)
            total += len(parts[-1])
        columns.append(np.concatenate(parts)[:count].astype(np.int64))
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0), np.int64)


def figures_of(config: Config, seen: Seen | None, known: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return by kind the share of frames with such a thing, in each fifth of the rollouts: of the model as the network
    sees it, of the real game as the network sees it and as it is; None for a game that tells nothing.

    "kept" is the last fifth of the model against that of the real game, both as the network sees them; None where the
    real game has no such thing then.
    """
    game = offered(config)
    if game is None or seen is None or known is None:
        return None
    figures = {}
    for index, kind in enumerate(game.KINDS):
        real = known[kind]
        by_game = _fifths(seen.seen[:, :, index].T)
        shares = [statistics.mean(part) for part in by_game]
        kept_share = shares[-1] / real["seen"][-1] if real["seen"][-1] else None
        interval = statistics.interval(by_game[-1])
        figures[kind] = {**real, "model": shares, "model_interval": interval, "kept": statistics.rounded(kept_share)}
    return figures


def _learn(config: Config) -> tuple[nn.Module, dict[str, Any]]:
    game, length = offered(config), config.evaluate.rollout_frames
    assert game is not None
    count = max(8, _NUM_FRAMES // length)
    episodes = held_out.load(f"{config.folder}/gameplay", config.game_spec(), config.seed)
    frames, places = _play(config, game, episodes, count)  # [games * length, ...]
    learnt = (count - count // 4) * length
    network = _train(frames[:learnt], places[:learnt], config.seed)
    with torch.inference_mode():
        highest = torch.cat([network(torch.from_numpy(part)).amax((2, 3)) for part in np.array_split(frames, 64)])
    present = places.any((2, 3))
    for index in range(present.shape[1]):
        network.threshold[index] = _threshold(highest[:learnt, index].numpy(), present[:learnt, index])
    seen = (highest[learnt:] > network.threshold).numpy()
    known = {}
    for index, kind in enumerate(game.KINDS):
        there, said = present[learnt:, index], seen[:, index]
        known[kind] = {
            "recall": statistics.mean(said[there]),
            "false_alarms": statistics.mean(said[~there]),
            "present": [statistics.mean(part) for part in _fifths(present[:, index].reshape(count, length).T)],
            "seen": [statistics.mean(part) for part in _fifths(said.reshape(-1, length).T)],
        }
    return network, known


def _threshold(highest: np.ndarray, present: np.ndarray) -> float:
    """Return the threshold with the best mean of the share found and the share rightly left, on what was learnt from.

    Infinite where there never is such a thing.
    """
    if not present.any() or present.all():
        return 0.0 if present.any() else float("inf")
    candidates = np.quantile(highest, np.linspace(0.02, 0.98, 49))
    right = [(highest[present] > value).mean() + (highest[~present] <= value).mean() for value in candidates]
    return float(candidates[int(np.argmax(right))])


def _fifths(values: np.ndarray) -> list[np.ndarray]:
    """Return for each fifth of the time [T, N] every game's share [N]."""
    return [part.mean(axis=0) for part in np.array_split(values.astype(np.float64), 5)]


def _play(config: Config, game: Contents, episodes: Sequence[Episode], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Play games with recorded actions, one episode after the other: small frames, and bool [T, kinds, rows, columns]
    where things are."""
    spec, length = config.game_spec(), config.evaluate.rollout_frames
    starts = [held_out.Start(episodes[number % len(episodes)], 1) for number in range(count)]
    actions = actions_from(starts, episodes, length)
    env = envs.make(config.game.name, **{**config.game.options, **game.OPTIONS})
    frames, places = [], []
    progress = Progress("real game, contents", actions.size, "frames")
    for number in range(count):
        _, info = env.reset(seed=config.seed * 1000 + number)
        for action in actions[:, number]:
            _, _, terminated, truncated, info = env.step(int(action))
            if terminated or truncated:
                _, info = env.reset()
            frame = spec.visible(env.render())
            frames.append(shrink(frame[None])[0])
            places.append(_grid(game.boxes(info), frame.shape, frames[-1].shape, len(game.KINDS)))
        progress.tell((number + 1) * length)
    env.close()
    return np.stack(frames), np.stack(places)


def _grid(
    boxes: Sequence[tuple[int, int, int, int, int]], shape: Sequence[int], small: Sequence[int], num_kinds: int
) -> np.ndarray:
    """Mark the places that boxes cover by their middles, bool [kinds, rows, columns]; a small box marks its middle."""
    grid = np.zeros((num_kinds, small[0] // _CELL, small[1] // _CELL), bool)
    high, wide = shape[0] / grid.shape[1], shape[1] / grid.shape[2]  # of a place, in pixels of the frame
    for kind, x, y, width, height in boxes:
        grid[kind, round(y / high) : round((y + height) / high), round(x / wide) : round((x + width) / wide)] = True
        row, column = int((y + height / 2) / high), int((x + width / 2) / wide)
        grid[kind, min(row, grid.shape[1] - 1), min(column, grid.shape[2] - 1)] = True
    return grid


def _train(frames: np.ndarray, places: np.ndarray, seed: int) -> ContentsNetwork:
    """Train on frames with something in them as often as on the others."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = ContentsNetwork(places.shape[1]).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_STEPS)
    something = places.any((1, 2, 3))
    weights = np.where(something, 1 / max(something.sum(), 1), 1 / max((~something).sum(), 1))
    progress = Progress("contents, learning", _STEPS, "steps")
    for step in range(_STEPS):
        chosen = rng.choice(len(frames), _BATCH, p=weights / weights.sum())
        images, wanted = (
            torch.from_numpy(frames[chosen]).to(device),
            torch.from_numpy(places[chosen]).float().to(device),
        )
        loss = F.binary_cross_entropy_with_logits(network(images), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.tell(step + 1)
    return network.cpu().eval()
