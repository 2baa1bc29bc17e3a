"""Adafactor: matrices and vectors move as with torch's own, kernels as the matrices that they are."""

from __future__ import annotations

import pytest
import torch

from gamengen.train.adafactor import Adafactor


def _pair(shape: tuple[int, ...]) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    return ours, torch.nn.Parameter(ours.detach().clone())


@pytest.mark.parametrize("shape", [(40, 8), (8, 72), (1, 5), (16,), (1,)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_matrices_and_vectors_move_as_with_torch(shape: tuple[int, ...], decay: float) -> None:
    ours, theirs = _pair(shape)
    settings = {"lr": 0.3, "weight_decay": decay}
    optimizers = Adafactor([ours], **settings), torch.optim.Adafactor([theirs], **settings)
    for step in range(12):  # from the 12th on a rate of 0.3 is above one over the root of the steps
        gradient = torch.randn(shape) * 10.0 ** (step % 3)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_is_a_matrix_of_a_row_per_output(memory_format: torch.memory_format) -> None:
    kernel, matrix = _pair((6, 4, 3, 3))
    kernel = torch.nn.Parameter(kernel.detach().to(memory_format=memory_format))
    matrix = torch.nn.Parameter(matrix.detach().flatten(1))
    optimizers = Adafactor([kernel], lr=0.1), Adafactor([matrix], lr=0.1)
    for _ in range(3):
        gradient = torch.randn(6, 4, 3, 3)
        kernel.grad, matrix.grad = gradient.clone(memory_format=torch.preserve_format), gradient.flatten(1)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach())
    kept = optimizers[0].state[kernel]
    assert kept["rows"].numel() == 6 and kept["columns"].numel() == 4 * 3 * 3


def test_a_gradient_of_zeros_moves_nothing() -> None:
    for shape in ((3, 5), (4,)):
        parameter = torch.nn.Parameter(torch.ones(shape))
        parameter.grad = torch.zeros_like(parameter)
        Adafactor([parameter], lr=0.1).step()
        assert torch.equal(parameter, torch.ones(shape))


def test_goes_on_from_its_state() -> None:
    through, resumed = _pair((5, 7))
    gradients = torch.randn(6, 5, 7)
    optimizer, first = Adafactor([through], lr=0.1), Adafactor([resumed], lr=0.1)
    for gradient in gradients:
        through.grad = gradient.clone()
        optimizer.step()
    for gradient in gradients[:3]:
        resumed.grad = gradient.clone()
        first.step()
    second = Adafactor([resumed], lr=0.1)
    second.load_state_dict(first.state_dict())
    for gradient in gradients[3:]:
        resumed.grad = gradient.clone()
        second.step()
    assert torch.equal(through, resumed)


def test_torch_s_state_is_refused() -> None:
    ours, theirs = _pair((5, 7))
    theirs.grad = torch.randn(5, 7)
    optimizer = torch.optim.Adafactor([theirs])
    optimizer.step()
    with pytest.raises(ValueError, match="earlier version"):
        Adafactor([ours], lr=0.1).load_state_dict(optimizer.state_dict())
