"""A camera finds how actions move a view that it has never seen, and what does not move with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

from gamengen.models.camera import Camera

CHANNELS, HEIGHT, WIDTH, BAR, SHIFT = 4, 32, 64, 8, 9
NONE, LEFT, RIGHT = range(3)


def _draw(batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw a frame, actions and the next frame of a view that turns by `SHIFT` positions over a landscape with coarse
    and fine patterns, new every time, above `BAR` rows that stay."""
    width = WIDTH + 2 * SHIFT
    coarse = torch.randn(batch, CHANNELS, 3, width // 8, generator=generator)
    scenery = F.interpolate(coarse, size=(HEIGHT, width), mode="bilinear")
    scenery = scenery + 0.5 * torch.randn(batch, CHANNELS, HEIGHT, width, generator=generator)
    actions = torch.randint(0, 3, (batch,), generator=generator)
    last, after = scenery[..., SHIFT : SHIFT + WIDTH].clone(), torch.empty(batch, CHANNELS, HEIGHT, WIDTH)
    for index, start in enumerate(torch.tensor([SHIFT, 0, 2 * SHIFT])[actions].tolist()):
        after[index] = scenery[index, :, :, start : start + WIDTH]
    after[:, :, -BAR:] = last[:, :, -BAR:]
    return last, F.one_hot(actions, 3).float(), after


def _moments() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield _draw(16, generator)


@pytest.fixture(scope="module")
def camera() -> Camera:
    torch.manual_seed(0)
    camera = Camera(3, HEIGHT, WIDTH)
    camera.calibrate(_moments(), 400)
    return camera


@pytest.mark.parametrize("action", [LEFT, RIGHT])
def test_a_turn_of_many_positions_is_found_either_way(camera: Camera, action: int) -> None:
    last, played, after = _draw(64, torch.Generator().manual_seed(1))
    chosen = played[:, action] == 1
    moved, _ = camera(last[chosen], played[chosen])
    inside = slice(SHIFT + 2, WIDTH - SHIFT - 2)
    error, of_copy = ((x - after[chosen])[..., inside].square().mean() for x in (moved, last[chosen]))
    assert error < 0.3 * of_copy


def test_what_stands_still_is_not_touched(camera: Camera) -> None:
    last, played, _ = _draw(64, torch.Generator().manual_seed(2))
    moved, moves = camera(last, played)
    assert torch.equal(moved[:, :, -BAR + 2 :], last[:, :, -BAR + 2 :])
    assert not moves[:, :, -BAR + 2 :].any()
    resting = played[:, NONE] == 1
    assert torch.equal(moved[resting], last[resting])


def test_what_comes_into_view_is_not_made_up(camera: Camera) -> None:
    last, played, _ = _draw(64, torch.Generator().manual_seed(3))
    moved, moves = camera(last, played)
    for action, edge in ((LEFT, slice(0, SHIFT - 2)), (RIGHT, slice(WIDTH - SHIFT + 2, WIDTH))):
        chosen = played[:, action] == 1
        assert not moves[chosen][..., edge].any()
        assert torch.equal(moved[chosen][..., edge], last[chosen][..., edge])


def test_the_same_moments_give_the_same_camera(camera: Camera) -> None:
    torch.manual_seed(0)
    again = Camera(3, HEIGHT, WIDTH)
    again.calibrate(_moments(), 400)
    assert all(torch.equal(value, camera.state_dict()[name]) for name, value in again.state_dict().items())


def test_it_is_measured_and_not_trained(camera: Camera) -> None:
    assert not list(camera.parameters())
    assert not any(value.requires_grad for value in camera.buffers())


def test_a_new_camera_copies() -> None:
    last, played, _ = _draw(4, torch.Generator().manual_seed(4))
    assert torch.equal(Camera(3, HEIGHT, WIDTH)(last, played)[0], last)
