"""Pasts of the network's own making: which frames, of which windows, and what they count for."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from gamengen.models import diffusion
from gamengen.models.diffusion import Augmentation, Draws, Schedule
from gamengen.train import denoiser as denoiser_stage
from gamengen.train.unrolling import Unrolling, nearness

SCHEDULE = Schedule.create(1000, 0.00085, 0.012, "scaled_linear", True)
UNROLLING = Unrolling("denoiser", SCHEDULE, 0, 930, batch_size=8, context_length=3, every=2, num_frames=4, seed=0)
ALL = slice(0, 8)


class Alone(nn.Module):
    """Sees each position by itself: its noised value, the one before, and the timestep."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, noisy: Tensor, timestep: Tensor, context: Tensor, *rest: Tensor) -> Tensor:
        last = context[:, -1].repeat(len(noisy) // len(context), 1, 1, 1)
        times = (timestep / 1000)[:, None, None, None].expand_as(noisy)
        return self.layers(torch.stack([noisy, last, times], -1))[..., 0]


class Adds(nn.Module):
    """Knows a game in which an action is added to all positions, but for a fault in every frame."""

    def __init__(self, fault: float = 0.0) -> None:
        super().__init__()
        self.fault = fault
        self.calls = 0

    def forward(self, noisy: Tensor, timestep: Tensor, context: Tensor, actions: Tensor, level: Tensor) -> Tensor:
        assert context.shape[1] == actions.shape[1] == 3
        assert not level.any()
        self.calls += 1
        signal, sigma = SCHEDULE.coefficients(timestep)
        return (signal * noisy - (context[:, -1] + actions[:, -1, None, None, None] + self.fault)) / sigma


def _played() -> tuple[Tensor, Tensor, Tensor]:
    """Return contexts [8, 7, 2, 6, 6], actions [8, 7] and how many frames were not played [8]."""
    actions = torch.randint(0, 3, (8, 7), generator=torch.Generator().manual_seed(0))
    values = torch.cat([torch.zeros(8, 1), actions[:, :-1].cumsum(1)], 1)
    return values[..., None, None, None].expand(8, 7, 2, 6, 6).float(), actions, torch.zeros(8, dtype=torch.long)


@pytest.mark.parametrize("step", range(4))
def test_a_network_that_makes_no_fault_makes_what_was_recorded(step: int) -> None:
    context, actions, padded = _played()
    past = UNROLLING(Adds(), context, actions, padded, step, ALL)
    assert past.shape == (8, 3, 2, 6, 6)
    assert torch.allclose(past, context[:, 4:], atol=1e-4)


def test_before_its_time_a_past_is_the_recorded_one() -> None:
    context, actions, padded = _played()
    later = dataclasses.replace(UNROLLING, begin=2)
    for step in range(2):
        assert torch.equal(later(Adds(0.1), context, actions, padded, step, ALL), context[:, 4:])
    assert torch.equal(
        later(Adds(0.1), context, actions, padded, 2, ALL), UNROLLING(Adds(0.1), context, actions, padded, 2, ALL)
    )


def test_without_steps_of_it_windows_are_no_longer(made) -> None:
    unrolling = Unrolling.of(_with(made, "denoiser", unrolled_steps=0, steps=8), "denoiser", SCHEDULE)
    assert unrolling.num_frames == 0
    context, actions, padded = _played()
    for step in range(10):  # however long it is trained
        assert torch.equal(unrolling(Adds(0.1), context, actions, padded, step, ALL), context)


def test_faults_add_up_in_every_other_window() -> None:
    context, actions, padded = _played()
    counts = set()
    for step in range(40):
        network = Adds(0.1)
        past = UNROLLING(network, context, actions, padded, step, ALL)
        off = (past - context[:, 4:])[:, :, 0, 0, 0]
        counts.add(network.calls)
        expected = torch.tensor([max(0, network.calls - 2), max(0, network.calls - 1), network.calls]) * 0.1
        assert torch.allclose(off[::2], expected.expand(4, 3), atol=1e-4)
        assert not off[1::2].any()
    assert counts == {1, 2, 3, 4}


def test_what_was_not_played_is_not_made() -> None:
    context, actions, padded = _played()
    padded[0], padded[2] = 5, 6  # one more frame was played, and none
    step = next(step for step in range(40) if _calls(step) == 4)
    off = (UNROLLING(Adds(0.1), context, actions, padded, step, ALL) - context[:, 4:])[:, :, 0, 0, 0]
    # the frame made from a true one is off by one fault, whatever was made in vain before it
    assert torch.allclose(off[0], torch.tensor([0.0, 0.0, 0.1]), atol=1e-4)
    assert not off[2].any()
    assert torch.allclose(off[4], torch.tensor([0.2, 0.3, 0.4]), atol=1e-4)


def _calls(step: int) -> int:
    network = Adds()
    UNROLLING(network, *_played(), step, ALL)
    return network.calls


def test_parts_of_a_batch_are_those_of_the_whole() -> None:
    context, actions, padded = _played()

    class Noisy(Adds):
        def forward(self, noisy: Tensor, *inputs: Tensor) -> Tensor:
            return super().forward(noisy, *inputs) + noisy  # what is made depends on the noise

    whole = UNROLLING(Noisy(), context, actions, padded, 3, ALL)
    for part in (slice(0, 2), slice(2, 6), slice(6, 8)):
        of_part = UNROLLING(Noisy(), context[part], actions[part], padded[part], 3, part)
        assert torch.allclose(of_part, whole[part])
    assert not torch.allclose(whole[0] - context[0, 4:], whole[2] - context[2, 4:])


def test_what_is_far_off_counts_for_little_and_so_does_what_lies_around_it() -> None:
    recorded = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    frame = recorded.clone()
    frame[1, :, 4, 4] += 5.0
    weight = nearness(frame, recorded, tolerance=0.5)
    assert weight.shape == (2, 1, 9, 9)
    expected = torch.ones(2, 1, 9, 9)
    expected[1, :, 2:7, 2:7] = math.exp(-(25 / 25) / 0.25)  # the mean square over 5 x 5 positions
    assert torch.allclose(weight, expected, atol=1e-6)
    everywhere = nearness(recorded + 0.3, recorded, tolerance=0.6)
    assert torch.allclose(everywhere, torch.full((2, 1, 9, 9), math.exp(-0.25)), atol=1e-5)


def test_a_part_without_its_share_says_so() -> None:
    context, actions, padded = (part[:3] for part in _played())
    with pytest.raises(ValueError, match=r"got 3 windows; expected a multiple of train\.denoiser\.unrolled_every, 2"):
        UNROLLING(Adds(), context, actions, padded, 0, slice(0, 3))


@pytest.mark.parametrize("stage", ["denoiser", "distill"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unrolled_steps": 9, "steps": 8}, r"unrolled_steps, got 9; expected 0 \.\.\. steps, which are 8"),
        ({"unrolled_frames": 0}, "got 2 and 0"),
        ({"unrolled_every": 0}, "got 0 and 12"),
        ({"unrolled_steps": 1, "accumulation": 4}, r"got \d windows; expected a multiple of train"),
    ],
)
def test_settings_that_do_not_go_together(made, stage: str, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        Unrolling.of(_with(made, stage, batch_size=12, **changes), stage, SCHEDULE)
    assert f"train.{stage}" in str(raised.value)


def test_nothing_can_be_near_without_tolerance(made) -> None:
    config = _with(made, "denoiser", unrolled_tolerance=0.0)
    with pytest.raises(ValueError, match=r"train\.denoiser\.unrolled_tolerance, got 0.0; expected more than 0"):
        denoiser_stage.objective(config, config.game_spec(), [])


def _with(config, stage: str, **changes: object):
    settings = dataclasses.replace(getattr(config.train, stage), **changes)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **{stage: settings}))


def test_a_picture_that_stands_still_is_kept_better() -> None:
    """Pictures of -1 and 1 that never change: what 200 frames of play leave of them."""
    without, with_them = (sum(_lost(_learnt(unrolled, seed), 200) for seed in (0, 2)) for unrolled in (False, True))
    assert with_them < 0.8 * without


def _pictures(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (count, 1, 1, 4, 4), generator=generator) * 2.0 - 1


def _learnt(unrolled: bool, seed: int, steps: int = 600) -> Alone:
    torch.manual_seed(seed)
    network, generator = Alone(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    unrolling = Unrolling("denoiser", SCHEDULE, steps // 2, 930, 16, 1, every=2, num_frames=8, seed=seed)
    augmentation = Augmentation(max_level=0.3, num_buckets=10, clean_fraction=0.5, dropout=0.0)
    nothing = torch.zeros(16, 9, dtype=torch.long)
    for step in range(steps):
        pictures = _pictures(16, generator)
        past, weight = pictures, None
        if unrolled:
            with torch.no_grad():
                played = pictures.expand(-1, 9, -1, -1, -1)
                past = unrolling(network, played, nothing, nothing[:, 0], step, slice(0, 16))
                weight = nearness(past[:, -1], pictures[:, -1], tolerance=0.8)
        draws = Draws.sample((16, 1, 1, 4, 4), 1000, (930,), 0.9, step, 2)
        loss = diffusion.loss(network, SCHEDULE, augmentation, past, nothing[:, 8:], pictures[:, 0], draws, weight)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        rate.step()
    return network


@torch.no_grad()
def _lost(network: Alone, num_frames: int) -> float:
    """Return how far off the picture is after so many frames."""
    generator = torch.Generator().manual_seed(99)
    pictures, timestep = _pictures(64, generator), torch.full((64,), 930)
    frames = pictures
    for _ in range(num_frames):
        noise = torch.randn(64, 1, 4, 4, generator=generator)
        frames = SCHEDULE.clean(noise, network(noise, timestep, frames), timestep)[:, None]
    return float((frames - pictures).square().mean().sqrt())
