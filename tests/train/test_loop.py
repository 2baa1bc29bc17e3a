"""The one loop: it goes on bit for bit where a state left off, and knows when something is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch

from gamengen.train import flops
from gamengen.train.loop import Objective, fit
from gamengen.train.meter import Progress
from gamengen.train.optimizers import Ema, learning_rate, make_optimizers
from tests.train import objectives

CPU = torch.device("cpu")


def _objective(config, stage: str) -> Objective:
    stage, *more = stage.split()
    if "camera" in more:
        options = {**config.denoiser.options, "camera_steps": 2}
        config = dataclasses.replace(config, denoiser=dataclasses.replace(config.denoiser, options=options))
    if "unrolled" in more:
        settings = dataclasses.replace(
            getattr(config.train, stage),
            steps=4,
            unrolled_steps=4,
            unrolled_every=2,
            unrolled_frames=9,
            checkpoint_every=2,
        )
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, **{stage: settings}))
    return objectives.build(config, stage)


# "unrolled": with pasts of the network's own; "camera": calibrated before the first step
STAGES = ("autoencoder", "decoder", "denoiser", "distill", "denoiser unrolled", "distill unrolled", "denoiser camera")


def _train(config, stage: str, steps: int, state: dict[str, Any] | None = None, **changes: Any):
    """Train, and return the averaged weights, the last state as a file would hold it, and the losses."""
    settings = getattr(config.train, stage.split()[0])
    settings = dataclasses.replace(settings, steps=4, checkpoint_every=2, log_every=1, **changes)
    states: dict[int, dict[str, Any]] = {}
    lines: list[Progress] = []

    class _Enough(Exception):
        pass

    def save(step: int, get_state) -> None:
        states[step] = _copied(get_state())
        if step == steps < settings.steps:
            raise _Enough

    weights = None
    with contextlib.suppress(_Enough):
        weights = fit(_objective(config, stage), settings, device=CPU, state=state, report=lines.append, save=save)
    return weights, states, lines


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


@pytest.mark.parametrize("stage", STAGES)
def test_two_steps_and_a_resume_to_four_equal_four_straight(made, stage: str) -> None:
    weights, straight, lines = _train(made, stage, 4)
    _, halfway, _ = _train(made, stage, 2)
    assert list(halfway) == [2]
    assert _equal(halfway[2], straight[2])
    again, resumed, late = _train(made, stage, 4, state=halfway[2])
    assert _equal(resumed[4], straight[4]), "network, optimizer and average, bit for bit"
    assert _equal(weights, again)
    assert [line.loss for line in late] == [line.loss for line in lines[2:]]
    assert not _equal(straight[2]["network"], straight[4]["network"])


def test_a_finished_training_takes_no_step(made) -> None:
    _, states, _ = _train(made, "denoiser", 4)
    weights, none, lines = _train(made, "denoiser", 4, state=states[4])
    assert (none, lines) == ({}, [])
    assert _equal(weights, states[4]["ema"])


def test_no_steps_leave_what_was_pretrained(made) -> None:
    objective = _objective(made, "decoder")
    before = _copied(objective.network.state_dict())
    weights = fit(objective, dataclasses.replace(made.train.decoder, steps=0), device=CPU)
    assert _equal(weights, before)


# Adafactor's rate is relative to the size of the weights
@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 3e-3), ("adafactor", 0.3), ("muon", 5e-3)])
def test_it_learns(made, optimizer: str, rate: float) -> None:
    config = made
    settings = dataclasses.replace(
        config.train.denoiser, steps=30, log_every=10, checkpoint_every=100, optimizer=optimizer, learning_rate=rate
    )
    lines: list[Progress] = []
    objective = _objective(config, "denoiser")

    def loss() -> float:
        """On the same windows and noise, before and after."""
        total = 0.0
        with torch.no_grad():
            for step, batch in enumerate(itertools.islice(objective.batches(0, 0, 1), 4)):
                batch = objective.prepare(batch, step, slice(0, 4))
                total += float(objective.loss(objective.network, batch, step, slice(0, 4)))
        return total

    before = loss()
    fit(objective, settings, device=CPU, report=lines.append)
    assert loss() < 0.9 * before
    assert [line.step for line in lines] == [10, 20, 30]
    assert lines[-1].seconds_left == 0 and 0 <= lines[-1].data_wait <= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_it_before_a_checkpoint(made, value: float) -> None:
    objective = _objective(made, "denoiser")

    def loss(network: torch.nn.Module, batch, step: int, examples: slice) -> torch.Tensor:
        return objective.loss(network, batch, step, examples) * (value if step == 2 else 1)

    broken = dataclasses.replace(objective, loss=loss)
    settings = dataclasses.replace(made.train.denoiser, steps=6, checkpoint_every=3)
    saved: list[int] = []
    with pytest.raises(FloatingPointError, match="at step 3"):
        fit(broken, settings, device=CPU, save=lambda step, state: saved.append(step))
    assert saved == []


def test_learning_rates(made) -> None:
    settings = dataclasses.replace(made.train.denoiser, steps=110, warmup_steps=10, learning_rate=1.0)
    linear, cosine, constant = (dataclasses.replace(settings, schedule=s) for s in ("linear", "cosine", "constant"))
    assert [learning_rate(linear, step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert [learning_rate(linear, step) for step in (10, 60, 110)] == pytest.approx([1.0, 0.5, 0.0])
    assert [learning_rate(cosine, step) for step in (10, 60, 110)] == pytest.approx([1.0, 0.5, 0.0])
    assert learning_rate(cosine, 35) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert [learning_rate(constant, step) for step in (10, 60, 109)] == [1.0, 1.0, 1.0]
    assert learning_rate(dataclasses.replace(linear, warmup_steps=0), 0) == 1.0


def test_only_matrices_are_decayed(made) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GroupNorm(2, 4))
    settings = dataclasses.replace(made.train.denoiser, weight_decay=0.1)
    (adamw,) = make_optimizers(network, dataclasses.replace(settings, optimizer="adamw"))
    decayed, others = adamw.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(4, 4)]
    assert len(others["params"]) == 3


def test_muon_takes_the_layers_and_adamw_the_rest(made) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2), torch.nn.Embedding(5, 4))
    settings = dataclasses.replace(made.train.denoiser, optimizer="muon", weight_decay=0.1)
    muon, adamw = make_optimizers(network, settings)
    taken = [[tuple(p.shape) for group in part.param_groups for p in group["params"]] for part in (muon, adamw)]
    assert taken == [[(4, 3, 3, 3), (2, 4)], [(5, 4), (4,), (2,)]]


def test_the_average_follows_slowly_and_early_weights_fade() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    ema = Ema(network, 0.9)
    torch.nn.init.ones_(network.weight)
    values = []
    for step in itertools.islice(itertools.count(), 200):
        ema.update(network, step)
        values.append(ema.weights["weight"].item())
    assert values[0] == pytest.approx(0.9)
    assert values == sorted(values) and values[-1] == pytest.approx(1.0, abs=1e-4)
    assert network.weight.item() == 1.0


@pytest.mark.parametrize("stage", ["denoiser", "denoiser unrolled", "distill unrolled"])
def test_two_workers_halves_make_the_whole_loss(made, stage: str) -> None:
    objective = _objective(made, stage)
    with torch.no_grad():
        for parameter in objective.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))

    def loss(rank: int, world: int) -> float:
        share = 4 // world
        step = 3, slice(rank * share, (rank + 1) * share)
        batch = objective.prepare(next(objective.batches(3, rank, world)), *step)
        return objective.loss(objective.network, batch, *step).item()

    halves = [loss(rank, 2) for rank in range(2)]
    assert sum(halves) / 2 == pytest.approx(loss(0, 1), rel=1e-5)
    assert halves[0] != halves[1]


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_in_parts_is_the_same_step(made, stage: str) -> None:
    # Small steps: AdamW takes a whole one in the direction of a gradient that is nothing but the rounding of a sum, and
    # a loss that four large ones threw about tells more of that than of the parts.
    changes = {"optimizer": "adamw", "learning_rate": 1e-4}
    whole, _, lines = _train(made, stage, 4, **changes)
    parts, _, in_parts = _train(made, stage, 4, accumulation=2, **changes)
    assert [line.loss for line in in_parts] == pytest.approx([line.loss for line in lines], rel=1e-5)
    assert max((whole[name] - parts[name]).abs().mean() for name in whole) < 1e-6


def test_a_batch_that_cannot_be_shared_out_says_so(made) -> None:
    with pytest.raises(ValueError, match=r"batch_size 4 cannot be shared by 1 workers that accumulate .* 3 parts"):
        _train(made, "denoiser", 4, accumulation=3)


def test_operations_of_a_step_are_three_forward_passes_and_what_is_frozen_once() -> None:
    network, frozen = torch.nn.Linear(8, 5, bias=False), torch.nn.Linear(5, 3, bias=False)

    def loss(network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int, examples: slice) -> torch.Tensor:
        return frozen(network(batch[0])).square().mean()

    forward, rest = 2 * 4 * 8 * 5, 2 * 4 * 5 * 3
    assert flops.of_step(loss, network, (torch.randn(4, 8),), 0, slice(0, 4)) == 3 * forward + rest
    assert 1e9 < flops.peak(CPU, None) < 1e14


def test_lines_tell_the_share_of_the_peak_and_the_memory(made) -> None:
    _, _, lines = _train(made, "denoiser", 4)
    assert all(0 < line.mfu < 1 and 0.1 < line.memory_gb < 100 for line in lines)
