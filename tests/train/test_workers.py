"""How many workers train, and what those count for that are too many; in one process, without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gamengen.train import workers
from gamengen.train.loop import Objective
from tests.conftest import load_tiny


@pytest.mark.parametrize(
    ("given", "count"), [("4", 4), ("[1, 4]", (1, 4)), ("[2, 2]", 2), ("3", None), ("[1, 3]", None), ("[4, 1]", None)]
)
def test_a_number_or_the_fewest_and_the_most(tmp_path: Path, given: str, count: int | tuple[int, int] | None) -> None:
    config = load_tiny(tmp_path, f"train.num_workers={given}")  # of four lanes
    if count is None:
        with pytest.raises(ValueError, match=r"cannot share 4 lanes|expected a number"):
            workers.count(config)
    else:
        assert workers.count(config) == count


@pytest.mark.parametrize(("world", "share"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4)])
def test_those_that_are_too_many_change_nothing(tmp_path: Path, world: int, share: int) -> None:
    assert workers.sharing(load_tiny(tmp_path), world) == share
    examples = torch.arange(8.0)

    def loss(network: nn.Module, batch: Tensor, step: int, part: slice) -> Tensor:
        return (network(batch[:, None]) ** 2).mean()

    gradients, losses = [], []
    for rank in range(world):
        torch.manual_seed(0)
        network = nn.Linear(1, 1)
        mine = examples.chunk(share)[rank % share]
        objective = workers.weighted(Objective(network, lambda *_: iter(()), loss), rank, world, share)
        value = objective.loss(network, mine, 0, slice(0, len(mine)))
        value.backward()
        gradients.append(network.weight.grad.clone())
        losses.append((value.item(), loss(network, mine, 0, slice(0)).item()))
    torch.manual_seed(0)
    network = nn.Linear(1, 1)
    loss(network, examples, 0, slice(0, 8)).backward()
    torch.testing.assert_close(torch.stack(gradients).mean(0), network.weight.grad)
    assert all(shown == pytest.approx(own) for shown, own in losses)
