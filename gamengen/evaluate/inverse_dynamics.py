"""A small network that tells from two frames which action was taken between them: it judges what a model follows.

It learns from recorded play of the training split and is kept in the run's folder. How often it is right about recorded
frames is the ceiling of what it can say about generated ones.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gamengen import storage
from gamengen.config import Config
from gamengen.data import shards
from gamengen.evaluate import kept

logger = logging.getLogger(__name__)
NUM_FRAMES = 2  # with the one before, it would guess that the player does what he did
_ROWS = 64  # of the small frames that the network sees
_MAX_FRAMES = 6000  # learnt from
_BATCH, _LEARNING_RATE = 64, 2e-3
_THIN, _WIDTH = 32, 64
_GRID = (4, 8)
# rows and columns by which the picture may have moved
_SHIFTS = tuple((0, columns) for columns in range(-16, 17, 2)) + ((-4, 0), (-2, 0), (2, 0), (4, 0))


class InverseDynamics(nn.Module):
    """Two small frames -> one logit per action.

    It sees the first frame and the change, patch by patch, and how well the second frame is the first one shifted by
    so many pixels: turning and walking are such shifts, which convolutions learn only slowly. A coarse grid of what it
    finds stays in place, since where something moves (a hand, the horizon, a dinosaur) tells actions apart.
    """

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(6 * 16, _THIN, 1),
            nn.SiLU(),
            nn.Conv2d(_THIN, _THIN, 3, padding=1),
            nn.GroupNorm(8, _THIN),
            nn.SiLU(),
            nn.Conv2d(_THIN, _WIDTH, 3, stride=2, padding=1),
            nn.GroupNorm(8, _WIDTH),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(_GRID),
        )
        places = _GRID[0] * _GRID[1]
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(places * (_WIDTH + len(_SHIFTS)), 128),
            nn.SiLU(),
            nn.Linear(128, num_actions),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B, 2 frames, h, w, 3] -> [B, actions]."""
        now, after = (frames.movedim(-1, 2).float() / 127.5 - 1).unbind(1)  # each [B, 3, h, w]
        seen = self.features(torch.cat([now, 3 * (after - now)], dim=1))
        return self.head(torch.cat([seen, _mismatches(now, after)], dim=1))

    @torch.inference_mode()
    def actions(self, frames: np.ndarray) -> np.ndarray:
        """Return the likeliest action for frames without padding, uint8 [N, 2, H, W, 3] -> int64 [N]."""
        small = shrink(frames.reshape(-1, *frames.shape[2:]))
        small = small.reshape(-1, NUM_FRAMES, *small.shape[1:])
        device = next(self.parameters()).device
        batches = np.array_split(small, 1 + len(small) // _BATCH)
        return torch.cat([self(torch.from_numpy(part).to(device)).argmax(1).cpu() for part in batches]).numpy()


def _mismatches(now: Tensor, after: Tensor) -> Tensor:
    """Return for each place of the grid how badly every shift explains the second frame, [B, shifts, rows, columns];
    around zero, and below it where a shift does better than the mean of them."""
    now, after = now.mean(1), after.mean(1)
    errors = [(torch.roll(now, shift, dims=(1, 2)) - after).abs() for shift in _SHIFTS]
    pooled = F.adaptive_avg_pool2d(torch.stack(errors, dim=1), _GRID)
    mean = pooled.mean(1, keepdim=True)
    return 2 * (pooled - mean) / (mean + 0.02)


def shrink(frames: np.ndarray) -> np.ndarray:
    """Average frames uint8 [N, H, W, 3] down to 64 rows."""
    height, width = frames.shape[1:3]
    size = (_ROWS, max(8, 8 * round(_ROWS * width / height / 8)))
    images = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).float()
    return F.interpolate(images, size, mode="area").round().to(torch.uint8).movedim(1, -1).contiguous().numpy()


def prepare(config: Config) -> None:
    """Train the network of a run and keep it in `inverse_dynamics/`, unless it is there for the same play and settings.

    Raises:
        ValueError: no play to learn from.
    """
    if config.evaluate.inverse_dynamics_steps:
        kept.prepare(_folder(config), _description(config), lambda: _learn(config))


def _learn(config: Config) -> tuple[InverseDynamics, dict[str, Any]]:
    frames, places, actions = _play(config)
    network = train(frames, places, actions, config.game_spec().num_actions, config)
    return network, {"num_examples": len(places)}


def load(config: Config) -> InverseDynamics | None:
    """Load what `prepare` has made, None where the settings leave it out."""
    if not config.evaluate.inverse_dynamics_steps:
        return None
    network = InverseDynamics(config.game_spec().num_actions)
    return kept.load(_folder(config), network, use_gpu=config.evaluate.use_gpu)


def _folder(config: Config) -> str:
    return f"{config.folder}/inverse_dynamics"


def _description(config: Config) -> dict[str, Any]:
    """What the network depends on."""
    names = [path.rpartition("/")[2] for path in storage.list_files(f"{config.folder}/gameplay", ".parquet")]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    steps, seed = config.evaluate.inverse_dynamics_steps, config.seed
    return {"num_frames": NUM_FRAMES, "steps": steps, "seed": seed, "gameplay": digest}


def _play(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return small frames [T, h, w, 3], the first frame's place of each moment [M], and its action [M]."""
    game = config.game_spec()
    names = shards.find(f"{config.folder}/gameplay", game)
    order = np.random.default_rng(config.seed).permutation(len(names))
    frames, places, actions, count = [], [], [], 0
    for episode in shards.episodes([names[index] for index in order], "train"):
        if len(episode) < NUM_FRAMES:
            continue
        frames.append(shrink(game.visible(episode.frames)))
        places.append(count + np.arange(len(episode) - 1))
        actions.append(episode.actions.astype(np.int64))
        count += len(episode)
        if count >= _MAX_FRAMES:
            break
    if not frames:
        raise ValueError(
            f"{config.folder}/gameplay, got no episode of the split 'train' with {NUM_FRAMES} frames; expected play to "
            "learn the inverse dynamics from. Record more, or set evaluate.inverse_dynamics_steps=0."
        )
    return np.concatenate(frames), np.concatenate(places), np.concatenate(actions)


def train(
    frames: np.ndarray, places: np.ndarray, actions: np.ndarray, num_actions: int, config: Config
) -> InverseDynamics:
    """Train on moments: frames `places` and the next ones, and the actions between them.

    Rare actions are drawn more often than they are taken, by the root of how rare they are.
    """
    steps, rng = config.evaluate.inverse_dynamics_steps, np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = InverseDynamics(num_actions).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    weights = np.bincount(actions, minlength=num_actions)[actions] ** -0.5
    for step in range(steps):
        chosen = rng.choice(len(places), _BATCH, p=weights / weights.sum())
        batch = torch.from_numpy(frames[places[chosen, None] + np.arange(NUM_FRAMES)])
        loss = F.cross_entropy(network(batch.to(device)), torch.from_numpy(actions[chosen]).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            logger.info("inverse dynamics: step %d of %d, loss %.3f", step + 1, steps, loss.item())
    return network.eval()
