"""Pasts of the network's own making: which frames, of which windows, and what they count for."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from gamengen.models.diffusion import Schedule
from gamengen.train.unrolling import Unrolling

SCHEDULE = Schedule.create(1000, 0.00085, 0.012, "scaled_linear", True)
UNROLLING = Unrolling(SCHEDULE, 930, 8, context_length=3, every=2, num_frames=4, tolerance=0.5, seed=0)
ALL = slice(0, 8)


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
    past, weight = UNROLLING(Adds(), context, actions, padded, step, ALL)
    assert past.shape == (8, 3, 2, 6, 6)
    assert torch.allclose(past, context[:, 4:], atol=1e-4)
    assert torch.allclose(weight, torch.ones(8, 1, 6, 6))


def test_faults_add_up_in_every_other_window_and_weigh_less_and_less() -> None:
    context, actions, padded = _played()
    counts = set()
    for step in range(40):
        network = Adds(0.1)
        past, weight = UNROLLING(network, context, actions, padded, step, ALL)
        off = (past - context[:, 4:])[:, :, 0, 0, 0]
        counts.add(network.calls)
        expected = torch.tensor([max(0, network.calls - 2), max(0, network.calls - 1), network.calls]) * 0.1
        assert torch.allclose(off[::2], expected.expand(4, 3), atol=1e-4)
        assert not off[1::2].any()
        expected = torch.tensor(-((0.1 * network.calls / 0.5) ** 2)).exp()
        assert torch.allclose(weight[::2], expected.expand(4, 1, 6, 6), atol=1e-4)
        assert (weight[1::2] == 1).all()
    assert counts == {1, 2, 3, 4}


def test_what_was_not_played_is_not_made() -> None:
    context, actions, padded = _played()
    padded[0], padded[2] = 5, 6  # one more frame was played, and none
    step = next(step for step in range(40) if _calls(step) == 4)
    off = (UNROLLING(Adds(0.1), context, actions, padded, step, ALL)[0] - context[:, 4:])[:, :, 0, 0, 0]
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
        assert all(torch.allclose(one, other[part]) for one, other in zip(of_part, whole, strict=True))
    assert not torch.allclose(whole[0][0] - context[0, 4:], whole[0][2] - context[2, 4:])


def test_a_part_without_its_share_says_so() -> None:
    context, actions, padded = (part[:3] for part in _played())
    with pytest.raises(ValueError, match=r"got 3 windows; expected a multiple of train\.denoiser\.unrolled_every, 2"):
        UNROLLING(Adds(), context, actions, padded, 0, slice(0, 3))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unrolled_steps": 9, "steps": 8}, r"unrolled_steps, got 9; expected 0 \.\.\. steps, 8"),
        ({"unrolled_frames": 0}, "got 2, 0 and 0.8"),
        ({"unrolled_every": 0}, "got 0, 12 and 0.8"),
        ({"unrolled_tolerance": 0.0}, "got 2, 12 and 0.0"),
        ({"unrolled_steps": 1, "accumulation": 4}, "got 1 windows; expected a multiple"),
    ],
)
def test_settings_that_do_not_go_together(made, changes: dict[str, object], said: str) -> None:
    settings = dataclasses.replace(made.train.denoiser, **changes)
    config = dataclasses.replace(made, train=dataclasses.replace(made.train, denoiser=settings))
    with pytest.raises(ValueError, match=said):
        Unrolling.of(config, SCHEDULE)
