"""A network that two workers share learns what one worker's does, and a checkpoint of it is whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from gamengen.data import shards
from gamengen.train import denoiser as stage
from gamengen.train import states
from gamengen.train.loop import fit

CPU = torch.device("cpu")


def _fit(config, file: str, state=None, rank: int = 0, world: int = 1):
    """Train 4 steps, write the state after 2 to a file, and return the averaged weights and the losses."""
    settings = dataclasses.replace(
        config.train.denoiser, steps=4, checkpoint_every=2, log_every=1, optimizer="adamw", learning_rate=1e-2
    )
    torch.manual_seed(0)
    objective = stage.objective(config, config.game_spec(), shards.find(f"{config.folder}/latents"))
    losses: list[float] = []

    def save(step: int, get_state) -> None:
        saved = get_state()
        if step == 2 and rank == 0:  # as the train job does
            torch.save(saved, file)

    weights = fit(
        objective, settings, device=CPU, rank=rank, world=world, state=state,
        wrap=states.shard if world > 1 else lambda network: network,
        save=save, report=lambda line: losses.append(line.loss),
    )  # fmt: skip
    return weights, losses


def _worker(rank: int, config, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    straight, losses = _fit(config, f"{folder}/state.pt", rank=rank, world=2)
    torch.distributed.barrier()
    state = torch.load(f"{folder}/state.pt", weights_only=True)
    assert all(state["network"][name].shape == value.shape for name, value in straight.items())
    again, late = _fit(config, f"{folder}/again.pt", state, rank, world=2)
    assert late == losses[2:]
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    if rank == 0:
        torch.save({"weights": straight, "losses": losses}, f"{folder}/result.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_that_share_a_network_learn_as_one(made, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_worker, (made, str(tmp_path)), nprocs=2)
    shared = torch.load(tmp_path / "result.pt", weights_only=True)
    weights, losses = _fit(made, str(tmp_path / "alone.pt"))
    assert shared["losses"] == pytest.approx(losses, rel=1e-4)
    assert all(torch.allclose(weights[name], shared["weights"][name], atol=1e-4) for name in weights)


def test_blocks_are_the_entries_of_lists() -> None:
    inner = nn.ModuleList([nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 2)]), nn.ModuleList([nn.Linear(1, 3)])])
    network = nn.Sequential(nn.Linear(1, 9), inner)
    assert [block.out_features for block in states._blocks(network)] == [1, 2, 3]
