"""A camera that moves frames as the actions move the view; it is calibrated before the network around it learns."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

logger = logging.getLogger(__name__)
_POWERS = 6  # 1, x, y, x^2, x y, y^2
_WIDTH = 128
_FARTHEST = 0.5  # of the coordinates' [-1, 1]: what each of a movement's numbers can be at most
_SLOWNESS = 0.15  # a step of the optimizer then moves a frame by little: one that is moved out of view teaches nothing
_STILL = 0.25  # latents, by which what moves less stays where it is: moved for minutes, it would blur
_RATE = 3e-3
# Until which share of the calibration frames are compared at which sizes, as parts of the shorter side. A fine pattern
# says where to go only where it is nearly right already, and that half a position off, blurred, it fits better than
# anywhere near. Large patches show the way from any distance.
_STAGES = ((0.5, (4, 8)), (0.7, (4, 8, 16)), (1.0, (16, 64)))
_LEAST_CHANGE = 1e-2  # mean square of latents: where there was less, nothing is to be learnt of it
_NUM_COMPARED = 100  # batches in which it is seen what belongs to the world
_AROUND = 5  # positions and side, over which that is judged
_CLEARLY = 1.25  # what is off by so many times more when moved does not belong to it


class Camera(nn.Module):
    """Moves frames as the actions move the view; what is not of the world (status bar, weapon) stays, and so does what
    would come from out of view.

    A turn shifts a whole picture by many positions. Convolutions learn that slowly, one distance at a time and each
    with channels of its own; a camera's movement is a few numbers: where a position comes from is a polynomial of
    second degree in its coordinates. A turn is nearly one; for a step forward, whose movement depends on how far
    things are, it is a beginning that the network corrects.

    Its numbers are measured and not trained: `calibrate` finds them; before, it copies. They are buffers, which keep
    float32 where weights become bfloat16, which could not tell neighbouring coordinates apart.

    Arguments of `forward`:
        frames: float [B, C, h, w], latents; of several frames side by side, which move alike.
        played: float [B, A], the actions, one-hot.
    Returns them moved, float32 [B, C, h, w], and where they were moved, 0 or 1 [B, 1, h, w].
    """

    world: Tensor  # [1, 1, h, w]: 1 where it moves

    def __init__(self, num_inputs: int, rows: int, columns: int) -> None:
        super().__init__()
        sizes = (num_inputs, _WIDTH, _WIDTH, 2 * _POWERS)
        self.movement = nn.ModuleList(nn.Linear(size, after) for size, after in itertools.pairwise(sizes))
        for layer in self.movement:
            for name, value in list(layer.named_parameters()):
                delattr(layer, name)
                layer.register_buffer(name, value.detach())
        self.movement[-1].weight.zero_()
        self.movement[-1].bias.zero_()
        self.register_buffer("world", torch.ones(1, 1, rows, columns))

    def forward(self, frames: Tensor, played: Tensor) -> tuple[Tensor, Tensor]:
        frames = frames.float()
        moved, seen = self._moved(frames, self._shift(played, *frames.shape[-2:]))
        moves = seen * self.world.float()
        return frames.lerp(moved, moves), moves

    def calibrate(self, moments: Iterable[tuple[Tensor, Tensor, Tensor]], steps: int) -> None:
        """Find how actions move the view, then which part of it moves; of `moments`, endless, each a batch of last
        latents, actions and next latents. On a CPU core a step of 16 moments of 64x80 positions takes about 25 ms.

        The loss is how far moved frames are off the next ones, beside how far copies are, each window for itself: a
        muzzle's flash, which changes everything, would else count for more than all turns.
        """
        moments, numbers = iter(moments), list(self.movement.buffers())
        rows, columns = self.world.shape[-2:]
        mask = torch.zeros(1, 1, rows, columns, device=self.world.device)  # of logits, till the movement is known
        learnt = [value.requires_grad_() for value in (*numbers, mask)]
        optimizer = torch.optim.Adam([{"params": numbers, "lr": _RATE}, {"params": [mask], "lr": 0.05}])
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
        for step, (last, played, target) in enumerate(itertools.islice(moments, steps)):
            parts = next(parts for until, parts in _STAGES if step < until * steps)
            moved, seen = self._moved(last, self._shift(played, rows, columns, still=0.0))
            moved = last.lerp(moved, mask.sigmoid() * seen)
            loss = _error(moved - target, last - target, [max(min(rows, columns) // part, 1) for part in parts])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        for value in learnt:
            value.requires_grad_(False).grad = None
        self._find_world(itertools.islice(moments, _NUM_COMPARED))

    @torch.no_grad()
    def _find_world(self, moments: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Find the positions whose frames are not clearly farther off when moved than when copied."""
        gain = torch.zeros(self.world.shape, device=self.world.device)
        for last, played, target in moments:
            moved, seen = self._moved(last, self._shift(played, *last.shape[-2:]))
            copied = _around(last - target)
            better = (_CLEARLY * copied - _around(moved - target)) * seen
            gain += (better / (copied.mean((1, 2, 3), keepdim=True) + _LEAST_CHANGE)).sum(0, keepdim=True)
        self.world.copy_(gain >= 0)
        logger.info("the camera is calibrated: %.0f %% of a frame moves with it.", 100 * self.world.mean())

    def _shift(self, played: Tensor, rows: int, columns: int, still: float = _STILL) -> Tensor:
        """Return how far away each position comes from, in coordinates [-1, 1], float32 [B, 2, h, w]."""
        y, x = _coordinates(rows, columns, played.device)
        powers = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])
        numbers = played.float()
        for number, layer in enumerate(self.movement):
            before = F.silu(numbers) if number else numbers  # no matrix product: autocast would take bfloat16 for it
            numbers = (before[:, None] * layer.weight.float()).sum(-1) + layer.bias.float()
        numbers = _FARTHEST * torch.tanh(_SLOWNESS * numbers)
        shift = (numbers.unflatten(1, (2, _POWERS))[..., None, None] * powers).sum(2)
        across, down = shift.unbind(1)
        return shift * (torch.hypot(across * columns / 2, down * rows / 2) >= still)[:, None]

    @staticmethod
    def _moved(frames: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents [B, C, h, w] from where the shift says, and which of these places are in view [B, 1, h, w]."""
        y, x = _coordinates(*frames.shape[-2:], frames.device)
        origin = (torch.stack([x, y]) + shift).movedim(1, -1)
        moved = F.grid_sample(frames, origin, padding_mode="border", align_corners=False)
        return moved, (origin.abs() <= 1).all(-1)[:, None]


def _coordinates(rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return y and x [h, w] of the positions' middles in [-1, 1], as `grid_sample` counts."""
    y, x = (torch.linspace(1 / count - 1, 1 - 1 / count, count, device=device) for count in (rows, columns))
    return tuple(torch.meshgrid(y, x, indexing="ij"))  # type: ignore[return-value]


def _error(error: Tensor, of_copy: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the mean over windows and sizes of patches of a mean square beside that of a copy."""
    total = torch.zeros((), device=error.device)
    for size in sizes:
        mine, copied = (F.avg_pool2d(x, size).square().mean((1, 2, 3)) for x in (error, of_copy))
        total = total + (mine / (copied + _LEAST_CHANGE)).mean()
    return total / len(sizes)


def _around(error: Tensor) -> Tensor:
    """Return the mean square [B, 1, h, w] of what errors have in common around a position."""
    return F.avg_pool2d(error, _AROUND, 1, _AROUND // 2, count_include_pad=False).square().mean(1, keepdim=True)
