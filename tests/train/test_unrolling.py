"""Pasts of the network's own making: in which windows, for how long, and what they count for."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gamengen.data import shards
from gamengen.data.window import Window
from gamengen.models import diffusion
from gamengen.models.denoisers import Denoiser
from gamengen.models.diffusion import Augmentation, Draws, Schedule
from gamengen.models.sampler import Sampler
from gamengen.train import denoiser as denoiser_stage
from gamengen.train.unrolling import Unrolling, nearness

SCHEDULE = Schedule.create(1000, 0.00085, 0.012, "scaled_linear", True)
AUGMENTATION = Augmentation(max_level=0.3, num_buckets=10, clean_fraction=0.5, dropout=0.0)
SAMPLER = Sampler(SCHEDULE, AUGMENTATION, (930, 600))
AT_ONCE = Sampler(SCHEDULE, AUGMENTATION, (930,))
UNROLLING = Unrolling(
    "denoiser", SAMPLER, 0, batch_size=8, context_length=3, every=2, num_frames=96, checkpoint_every=100, seed=0
)
ALL = slice(0, 8)


class Alone(Denoiser):
    """Sees each position by itself: its noised value, the one before, and the timestep."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))

    def denoise(self, noisy: Tensor, timestep: Tensor, context: Tensor, *rest: Tensor) -> Tensor:
        times = (timestep / 1000)[:, None, None, None].expand_as(noisy)
        return self.layers(torch.stack([noisy, context[:, -1], times], -1))[..., 0]


class Adds(Denoiser):
    """Knows a game in which an action is added to all positions, but for a fault in every frame."""

    def __init__(self, fault: float = 0.0) -> None:
        super().__init__()
        self.fault = fault
        self.calls = 0

    def denoise(self, noisy: Tensor, timestep: Tensor, context: Tensor, actions: Tensor, level: Tensor) -> Tensor:
        assert context.shape[1] == actions.shape[1] == 3
        assert not level.any()
        self.calls += 1
        signal, sigma = SCHEDULE.coefficients(timestep)
        return (signal * noisy - (context[:, -1] + actions[:, -1, None, None, None] + self.fault)) / sigma


def _game(length: int = 30) -> tuple[Tensor, Tensor]:
    """Return 8 recordings: frames [8, T, 2, 6, 6] and actions [8, T]."""
    actions = torch.randint(0, 3, (8, length), generator=torch.Generator().manual_seed(0))
    values = torch.cat([torch.zeros(8, 1), actions[:, :-1].cumsum(1)], 1)
    return values[..., None, None, None].expand(8, length, 2, 6, 6).float(), actions


def _pasts(
    unrolling: Unrolling, network: Denoiser, steps: range, begins: tuple[int, ...] = (), part: slice = ALL
) -> list[Tensor]:
    """Follow the recordings step by step; returns how far off the last frames of each step's pasts are [8, 3, 2, 6, 6].

    In the steps `begins` a new chain begins in all of them.
    """
    frames, actions = _game()
    result = []
    for step in steps:
        now = slice(step, step + 3)
        follows = torch.full((8,), step not in begins)
        inputs = frames[part, now], actions[part, now], follows[part]
        result.append(unrolling(network, *inputs, step, part) - frames[part, now])
    return result


def _unrolling(**changes: object) -> Unrolling:
    return dataclasses.replace(UNROLLING, **changes)


def test_a_network_that_makes_no_fault_makes_what_was_recorded() -> None:
    network = Adds()
    off = _pasts(_unrolling(), network, range(20))
    assert off[-1].shape == (8, 3, 2, 6, 6)
    assert all(one.abs().max() < 1e-4 for one in off)
    assert network.calls == 19 * 2  # one frame a step, after the first, made in two


def test_faults_add_up_along_every_other_window() -> None:
    off = _pasts(_unrolling(), Adds(0.1), range(20))
    for made, one in enumerate(off):
        expected = 0.1 * torch.tensor([max(0, made - 2), max(0, made - 1), made])
        assert torch.allclose(one[::2], expected[:, None, None, None].expand(4, 3, 2, 6, 6), atol=1e-3)
        assert not one[1::2].any()


def test_chains_begin_with_what_was_recorded_in_their_time_and_at_checkpoints() -> None:
    off = _pasts(_unrolling(begin=2, checkpoint_every=10), Adds(0.1), range(20), begins=(5,))
    last = [round(one[0, -1, 0, 0, 0].item(), 3) for one in off]
    assert last == [0, 0, 0, 0.1, 0.2, 0, 0.1, 0.2, 0.3, 0.4, *(round(0.1 * made, 3) for made in range(10))]


def test_a_step_may_be_asked_for_twice_where_training_begins_and_none_be_left_out() -> None:
    unrolling = _unrolling()
    twice = [_pasts(unrolling, Adds(0.1), range(3, 4))[0] for _ in range(2)]
    assert not twice[0].any() and not twice[1].any()
    assert _pasts(unrolling, Adds(0.1), range(4, 5))[0].any()
    assert not _pasts(unrolling, Adds(0.1), range(6, 7))[0].any()


def test_without_steps_of_it_nothing_is_made(made) -> None:
    unrolling = Unrolling.of(_with(made, "denoiser", unrolled_steps=0, steps=8), "denoiser", SAMPLER)
    assert not any(one.any() for one in _pasts(unrolling, Adds(0.1), range(20)))  # however long it is trained


def test_parts_of_a_batch_are_those_of_the_whole() -> None:
    class Noisy(Adds):
        def denoise(self, noisy: Tensor, *inputs: Tensor) -> Tensor:
            return super().denoise(noisy, *inputs) + noisy  # what is made depends on the noise

    whole = _pasts(_unrolling(), Noisy(), range(5))
    for part in (slice(0, 2), slice(2, 6), slice(6, 8)):
        for one, of_part in zip(whole, _pasts(_unrolling(), Noisy(), range(5), part=part), strict=True):
            assert torch.allclose(of_part, one[part])
    assert not torch.allclose(whole[4][0], whole[4][2])


def test_chains_take_their_places_in_a_stream_from_their_first_step_on(made) -> None:
    config = _with(made, "denoiser", steps=20, unrolled_steps=15, unrolled_every=2, unrolled_frames=8)
    shard_list = shards.find(f"{made.folder}/latents")
    settings = config.train.denoiser
    ordinary = denoiser_stage.windows(config, settings, config.game_spec(), shard_list)
    unrolling = Unrolling.of(config, "denoiser", SAMPLER)

    def taken(step: int, count: int, rank: int = 0, world: int = 1) -> list[list[Window]]:
        return list(itertools.islice(unrolling.batches(ordinary, step, rank, world), count))

    straight = taken(0, 20)
    size = settings.batch_size
    for step, (windows, plain) in enumerate(
        zip(straight, itertools.islice(ordinary.batches(0, 0, 1), 20), strict=True)
    ):
        assert len(windows) == size
        for place, (window, one) in enumerate(zip(windows, plain, strict=True)):
            if step < 5 or place % 2:
                assert np.array_equal(window.target, one.target) and not window.follows
            elif window.follows:
                assert np.array_equal(window.context[-1], straight[step - 1][place].target)
    follow = [window.follows for windows in straight[5:] for window in windows[::2]]
    assert not any(window.follows for window in straight[5]) and 0.5 < np.mean(follow) < 1
    for step in (3, 9):
        assert _targets(taken(step, 5)) == _targets(straight[step : step + 5])
    halves = [taken(4, 5, rank, 2) for rank in range(2)]
    assert _targets([one + other for one, other in zip(*halves, strict=True)]) == _targets(straight[4:9])


@pytest.mark.parametrize("num_frames", [1, 5])
def test_so_many_frames_of_a_chain_are_made(made, num_frames: int) -> None:
    config = _with(made, "denoiser", steps=60, unrolled_steps=60, unrolled_every=4, unrolled_frames=num_frames)
    shard_list = shards.find(f"{made.folder}/latents")
    ordinary = denoiser_stage.windows(config, config.train.denoiser, config.game_spec(), shard_list)
    unrolling = Unrolling.of(config, "denoiser", SAMPLER)
    follows = [batch[0].follows for batch in itertools.islice(unrolling.batches(ordinary, 0, 0, 1), 60)]
    assert max(len(list(run)) for follow, run in itertools.groupby(follows) if follow) == num_frames


def _targets(batches: list[list[Window]]) -> list[tuple[bytes, bool]]:
    return [(window.target.tobytes(), window.follows) for windows in batches for window in windows]


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
    with pytest.raises(ValueError, match=r"got 3 windows; expected a multiple of train\.denoiser\.unrolled_every, 2"):
        _pasts(_unrolling(), Adds(), range(1), part=slice(0, 3))


@pytest.mark.parametrize("stage", ["denoiser", "distill"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unrolled_steps": 9, "steps": 8}, r"unrolled_steps, got 9; expected 0 \.\.\. steps, which are 8"),
        ({"unrolled_frames": 0}, "got 2 and 0"),
        ({"unrolled_every": 0}, "got 0 and 96"),
        ({"unrolled_steps": 1, "accumulation": 4}, r"got \d windows; expected a multiple of train"),
    ],
)
def test_settings_that_do_not_go_together(made, stage: str, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        Unrolling.of(_with(made, stage, batch_size=12, **changes), stage, SAMPLER)
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
    without, with_them = (sum(_lost(_learnt(unrolled, seed), 200) for seed in (0, 1)) for unrolled in (False, True))
    assert with_them < 0.5 * without


def _pictures(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (count, 1, 1, 4, 4), generator=generator) * 2.0 - 1


def _learnt(unrolled: bool, seed: int, steps: int = 600) -> Alone:
    torch.manual_seed(seed)
    network, generator = Alone(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    unrolling = Unrolling("denoiser", AT_ONCE, steps // 2, 16, 1, 2, 96, checkpoint_every=steps, seed=seed)
    nothing, chains = torch.zeros(16, 1, dtype=torch.long), torch.arange(16) % 2 == 0
    pictures = _pictures(16, generator)
    for step in range(steps):
        follows = chains & (torch.rand(16, generator=generator) > 1 / 12) & unrolled
        pictures = torch.where(follows[:, None, None, None, None], pictures, _pictures(16, generator))
        past, weight = pictures, None
        if unrolled:
            with torch.no_grad():
                past = unrolling(network, pictures, nothing, follows, step, slice(0, 16))
                weight = nearness(past[:, -1], pictures[:, -1], tolerance=0.8)
        draws = Draws.sample((16, 1, 1, 4, 4), 1000, (930,), 0.9, step, 2)
        loss = diffusion.loss(network, SCHEDULE, AUGMENTATION, past, nothing, pictures[:, 0], draws, weight)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        rate.step()
    return network


@torch.no_grad()
def _lost(network: Alone, num_frames: int) -> float:
    """Return how far off the picture is after so many frames."""
    generator = torch.Generator().manual_seed(99)
    pictures, nothing = _pictures(64, generator), torch.zeros(64, 1, dtype=torch.long)
    frames = pictures
    for _ in range(num_frames):
        frames = AT_ONCE(network, frames, nothing, torch.randn(64, 1, 4, 4, generator=generator))[:, None]
    return float((frames - pictures).square().mean().sqrt())
