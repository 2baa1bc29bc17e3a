"""Two workers, each with a copy of a network or with half of it, learn what one does; checkpoints are whole."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from gamengen.train import states
from gamengen.train.loop import fit
from tests.train import objectives

CPU = torch.device("cpu")
TWENTY = {"steps": 20, "accumulation": 2, "checkpoint_every": 10}
SHARED = {"shared": {}, "distilled": {"distills": True, "matching_steps": 2}}


def _alone(network: nn.Module) -> nn.Module:
    return network


def _fit(config, file: str, state=None, wrap=_alone, rank: int = 0, world: int = 1, distills=False, **changes):
    """Train 4 steps with pasts of the network's own, write the state after 2 to a file, and return the averaged weights
    and the losses."""
    stage = "distill" if distills else "denoiser"
    changes = {
        "steps": 4,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "checkpoint_every": 2,
        "log_every": 1,
        **changes,
    }
    unrolled = {
        "unrolled_steps": changes["steps"],
        "unrolled_every": 1,
        "unrolled_frames": 9,
    }
    settings = dataclasses.replace(getattr(config.train, stage), **unrolled, **changes)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **{stage: settings}))
    objective = objectives.build(config, stage)
    losses: list[float] = []

    def save(step: int, get_state) -> None:
        saved = get_state()
        if step == 2 and rank == 0:  # as the train job does
            torch.save(saved, file)

    weights = fit(
        objective, settings, device=CPU, rank=rank, world=world, state=state, wrap=wrap,
        save=save, report=lambda line: losses.append(line.loss),
    )  # fmt: skip
    return weights, losses


def _worker(rank: int, config, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    worker = {"rank": rank, "world": 2}
    copies = _fit(config, f"{folder}/copies.pt", wrap=nn.parallel.DistributedDataParallel, **worker, **TWENTY)
    result = {"copies": copies}
    for kind, settings in SHARED.items():
        file = f"{folder}/{kind}.pt"
        straight, losses = result[kind] = _fit(config, file, wrap=states.shard, **worker, **settings)
        torch.distributed.barrier()
        state = torch.load(file, weights_only=True)
        assert all(state["network"][name].shape == value.shape for name, value in straight.items())
        again, late = _fit(config, f"{folder}/again.pt", state, states.shard, **worker, **settings)
        assert late == losses[2:]
        assert all(torch.equal(straight[name], again[name]) for name in straight)
    if rank == 0:
        torch.save(result, f"{folder}/result.pt")
    torch.distributed.destroy_process_group()
    os._exit(0)  # Gloo's threads may still hold tensors, and a thread that frees one while Python ends aborts


@pytest.mark.slow
def test_two_workers_learn_as_one(made, tmp_path: Path) -> None:
    """20 steps with copies, in two parts each, and 4 with halves, also of distillation: the same losses but for
    rounding.

    Adam makes of the rounding of a gradient near zero a step of full size, so that single weights differ by more: the
    root of the mean square is compared, which other windows or noise bring to 1e-3 (and a loss to a fifth more). The
    learning rate is low, or in one training of ten such steps add up to more than rounding.
    """
    torch.multiprocessing.spawn(_worker, (made, str(tmp_path)), nprocs=2)
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    for kind, changes in {"copies": TWENTY | {"accumulation": 1}, **SHARED}.items():
        expected, expected_losses = _fit(made, str(tmp_path / "alone.pt"), **changes)
        weights, losses = result[kind]
        assert losses == pytest.approx(expected_losses, rel=1e-4)
        assert len(losses) == changes.get("steps", 4)
        differences = torch.cat([(weights[name] - value).flatten() for name, value in expected.items()])
        assert differences.square().mean().sqrt() < 1e-5


def test_blocks_are_the_entries_of_lists() -> None:
    inner = nn.ModuleList([nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 2)]), nn.ModuleList([nn.Linear(1, 3)])])
    network = nn.Sequential(nn.Linear(1, 9), inner)
    assert [block.out_features for block in states._blocks(network)] == [1, 2, 3]
