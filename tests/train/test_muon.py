"""Muon: updates are orthogonal and as large as AdamW's; what torch's own does to a matrix, ours does too."""

from __future__ import annotations

import pytest
import torch

from gamengen.train.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(8, 72), (40, 8), (16, 16)])
def test_singular_values_are_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    middle = left.T @ orthogonalised(matrix) @ right.T
    assert middle.diagonal().min() > 0.6 and middle.diagonal().max() < 1.3
    assert (middle - middle.diagonal().diag()).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(8, 72), (40, 8)])
def test_matrices_move_as_with_torch(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    start = ours.detach().clone()
    settings = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}
    optimizers = Muon([ours], **settings), torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(3):
        gradient = torch.randn(shape)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved  # torch's iterates in bfloat16


def test_a_kernel_is_a_matrix_whatever_its_memory_format() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Parameter(torch.randn(6, 4, 3, 3))
    last = torch.nn.Parameter(plain.detach().clone().to(memory_format=torch.channels_last))
    gradient = torch.randn_like(plain)
    for parameter in (plain, last):
        parameter.grad = gradient.clone()
        Muon([parameter], lr=0.1).step()
    torch.testing.assert_close(plain, last)


@pytest.mark.parametrize("shape", [(3, 8, 72), (3, 40, 8)])
def test_a_stack_is_made_orthogonal_one_by_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    stack = torch.randn(shape)
    torch.testing.assert_close(orthogonalised(stack), torch.stack([orthogonalised(one) for one in stack]))


def test_parameters_in_a_group_move_as_each_alone() -> None:
    torch.manual_seed(0)
    muon = Muon([torch.nn.Parameter(torch.randn(6, 4, 3, 3)) for _ in range(3)], lr=0.1, weight_decay=0.1)
    (group,) = muon.param_groups
    alone = [torch.nn.Parameter(parameter.detach().clone()) for parameter in group["params"]]
    for one, other in zip(group["params"], alone, strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
        Muon([other], lr=0.1, weight_decay=0.1).step()
    with torch.no_grad():
        muon._update(group["params"], group)  # as a GPU's are, which have one shape
    for one, other in zip(group["params"], alone, strict=True):
        torch.testing.assert_close(one, other)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 5))
    parameter.grad = torch.zeros_like(parameter)
    Muon([parameter], lr=0.1).step()
    assert torch.equal(parameter, torch.ones(3, 5))
