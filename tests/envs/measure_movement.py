"""Measures what must be known of a walk to foresee DOOM's next view, for the README's table.

`python -m tests.envs.measure_movement [supersampling]` plays `health_gathering_supreme` at random, two tics a frame,
with depth and positions from the engine. From some games it learns movements of the last frame (at a quarter of its
size, without the status bar) and measures them on others, at that size and at the whole.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
import vizdoom as vzd
from torch import Tensor, nn
from torch.nn import functional as F

GAMES, HELD_OUT, FRAMES = 20, 4, 260
BUTTONS = ([0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1])  # turn left, turn right, forward
CHANCES = (0.03, 0.10, 0.10, 0.25, 0.26, 0.26)
SHRINK, ROWS = 4, 200  # of 240: without the status bar
PAST = 6  # actions
BOB = 10  # frames of a walker's bobbing
VARIABLES = ("POSITION_X", "POSITION_Y", "ANGLE")


@dataclass
class Pairs:
    """N pairs of frames: `last` and `after` [N, 3, h, w] in 0 ... 1, `depth` [N, 1, h, w], the last actions [N, 6], the
    movements before and between them [N, 3] (forward, aside, turn) and the number of the frame [N]."""

    last: Tensor
    after: Tensor
    depth: Tensor
    actions: Tensor
    before: Tensor
    between: Tensor
    number: Tensor


def play(games: int, seed: int, shrink: int, supersampling: int = 1) -> Pairs:
    """Play games at random; an action is held for four frames."""
    rng, rows = np.random.default_rng(seed), []
    with tempfile.TemporaryDirectory() as folder:
        settings = os.path.join(folder, "doom.ini")  # which the engine would leave where one stands
        game = _start(seed, settings, supersampling)
        for _ in range(games):
            rows += _play_one(game, rng, shrink * supersampling)
        game.close()
    return Pairs(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _start(seed: int, settings: str, supersampling: int) -> vzd.DoomGame:
    game = vzd.DoomGame()
    game.load_config(os.path.join(vzd.scenarios_path, "health_gathering_supreme.cfg"))
    game.set_doom_config_path(settings)
    size = f"RES_{320 * supersampling}X{240 * supersampling}"
    game.set_screen_resolution(vzd.ScreenResolution.__members__[size])
    game.set_screen_format(vzd.ScreenFormat.RGB24)
    game.set_render_hud(True)
    game.set_depth_buffer_enabled(True)
    game.set_window_visible(False)
    game.set_available_game_variables([vzd.GameVariable.__members__[name] for name in VARIABLES])
    game.set_seed(seed)
    game.init()
    return game


def _play_one(game: vzd.DoomGame, rng: np.random.Generator, shrink: int) -> list[tuple[Tensor, ...]]:
    """Return what `Pairs` holds of every pair of one game."""
    game.new_episode()
    pictures, depths, places, actions = [], [], [], []
    while not game.is_episode_finished() and len(actions) < FRAMES:
        state = game.get_state()
        pictures.append(_world(torch.tensor(state.screen_buffer).movedim(2, 0) / 255, shrink))
        depths.append(_world(torch.tensor(state.depth_buffer)[None].float(), shrink))
        places.append(torch.tensor(state.game_variables))
        held = len(actions) % 4
        actions.append(actions[-1] if held else int(rng.choice(len(BUTTONS), p=CHANCES)))
        game.make_action(list(BUTTONS[actions[-1]]), 2)
    rows = []
    for i in range(PAST, len(actions) - 1):
        moves = _movement(places[i - 1], places[i]), _movement(places[i], places[i + 1])
        past = torch.tensor(actions[i - PAST + 1 : i + 1])
        rows.append((pictures[i], pictures[i + 1], depths[i], past, *moves, torch.tensor(i)))
    return rows


def _world(picture: Tensor, shrink: int) -> Tensor:
    rows = picture.shape[1] * ROWS // 240
    return F.avg_pool2d(picture[:, :rows], shrink)


def shrunk(pairs: Pairs) -> Pairs:
    """Return the same pairs at a quarter of their size."""
    pictures = {name: F.avg_pool2d(getattr(pairs, name), SHRINK) for name in ("last", "after", "depth")}
    return dataclasses.replace(pairs, **pictures)


def _movement(start: Tensor, end: Tensor) -> Tensor:
    """Return forward and aside in tens of map units, and the turn in tens of degrees."""
    (x, y, turn), angle = (end - start).tolist(), math.radians(float(start[2]))
    forward, aside = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return torch.tensor([forward, aside, (turn + 180) % 360 - 180]) / 10


def network(inputs: int, outputs: int) -> nn.Sequential:
    """Build a network that begins at zero."""
    last = nn.Linear(64, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, 64), nn.SiLU(), last)


def unexplained(train: Pairs, test: Pairs, names: tuple[str, ...]) -> list[float]:
    """Return the share of the variance of (forward, aside, turn) that what is known leaves, on held-out games."""
    torch.manual_seed(0)
    inputs = known(train, names)
    model = network(inputs.shape[1], 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(3000):
        chosen = torch.randint(0, len(inputs), (64,))
        _step(optimizer, F.mse_loss(model(inputs[chosen]), train.between[chosen]))
    with torch.no_grad():
        error = (model(known(test, names)) - test.between).square().mean(0)
    return (error / test.between.var(0)).tolist()


def moved(train: Pairs, tests: tuple[Pairs, ...], names: tuple[str, ...], depth: bool) -> list[float]:
    """Return the PSNR of the last frame moved by what is known for each size of the held-out pairs, the mean over them.

    The movement is a polynomial of second degree in a position's coordinates, and another times its nearness."""
    torch.manual_seed(0)
    inputs = known(train, names)
    models = nn.ModuleList(network(inputs.shape[1], 12) for _ in range(2 if depth else 1))
    optimizer = torch.optim.AdamW(models.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, 1500)
    for _ in range(1500):
        chosen = torch.randint(0, len(inputs), (32,))
        picture = _moved(models, inputs[chosen], train.last[chosen], train.depth[chosen])
        _step(optimizer, F.mse_loss(picture, train.after[chosen]))
        schedule.step()
    with torch.no_grad():
        return [_moved_psnr(models, test, names) for test in tests]


def _moved_psnr(models: nn.ModuleList, test: Pairs, names: tuple[str, ...]) -> float:
    columns = known(test, names), test.last, test.depth
    pictures = [_moved(models, *part) for part in zip(*(column.split(16) for column in columns), strict=True)]
    return psnr(torch.cat(pictures), test.after)


def _moved(models: nn.ModuleList, inputs: Tensor, last: Tensor, depth: Tensor) -> Tensor:
    rows, columns = last.shape[-2:]
    y, x = torch.meshgrid(_centres(rows), _centres(columns), indexing="ij")
    terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])
    shifts = [torch.einsum("bkp,phw->bkhw", model(inputs).unflatten(1, (2, 6)), terms) for model in models]
    shift = shifts[0] + shifts[1] / (depth / 3 + 0.1) if len(shifts) == 2 else shifts[0]  # 3: the median of the depth
    return F.grid_sample(last, (terms[1:3] + shift).movedim(1, -1), padding_mode="border", align_corners=False)


def _centres(count: int) -> Tensor:
    return torch.linspace(1 / count - 1, 1 - 1 / count, count)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def known(pairs: Pairs, names: tuple[str, ...]) -> Tensor:
    """Return what is known of every pair, [N, numbers]."""
    phase = 2 * math.pi * pairs.number / BOB
    numbers = {
        "actions": F.one_hot(pairs.actions, len(BUTTONS)).flatten(1),
        "before": pairs.before,
        "between": pairs.between,
        "phase": torch.stack([phase.sin(), phase.cos()], 1),
    }
    return torch.cat([numbers[name].float() for name in names], 1)


def psnr(pictures: Tensor, real: Tensor) -> float:
    error = (pictures - real).square().flatten(1).mean(1).clamp_min(1e-6)  # 60 dB where nothing differs
    return float((-10 * error.log10()).mean())


if __name__ == "__main__":
    supersampling = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    train, whole = play(GAMES, 1, SHRINK, supersampling), play(HELD_OUT, 2, 1, supersampling)
    small = shrunk(whole)
    print(f"{len(train.last)} pairs to learn from, {len(whole.last)} of other games to measure")
    for names in (("actions",), ("actions", "before")):
        shares = ", ".join(f"{share:.2%}" for share in unexplained(train, whole, names))
        print(f"{' + '.join(names)} leave of forward, aside, turn: {shares}")
    print("movement made of | moved frame, a quarter of its size | whole")
    print(f"copy | {psnr(small.last, small.after):.1f} dB | {psnr(whole.last, whole.after):.1f} dB")
    for names, depth in (
        (("actions",), False),
        (("actions",), True),
        (("actions", "before"), False),
        (("actions", "before"), True),
        (("actions", "before", "phase"), True),
        (("between", "phase"), True),
    ):
        found = moved(train, (small, whole), names, depth)
        print(f"{' + '.join(names)}{' + depth' * depth} | {found[0]:.1f} dB | {found[1]:.1f} dB", flush=True)
