"""The Muon optimizer for convolutions and linear layers: momentum whose every update is made orthogonal."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration; steepest at zero
_NS_STEPS = 5
_RMS = 0.2  # of an AdamW update, roughly


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024), scaled to the size of AdamW's updates (Liu et al., 2025), so that both share a rate.

    torch's own takes matrices only and iterates in bfloat16, which a CPU without it emulates: 20 times the time. Here a
    kernel [out, in, rows, columns] is a matrix [out, in * rows * columns], and the iteration runs in float32 on the
    smaller side's Gram matrix.

    Args:
        parameters: weights of at least two dimensions.
        lr: as for AdamW.
        momentum: of the gradient, with Nesterov's look ahead.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: nn.Parameter, group: dict[str, float]) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        ahead = parameter.grad.lerp(momentum, group["momentum"]).flatten(1)
        size = _RMS * max(ahead.shape) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(orthogonalised(ahead).reshape(parameter.shape), alpha=-group["lr"] * size)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return a matrix with the same singular vectors and all singular values near one (0.7 to 1.2).

    The Newton-Schulz iteration X <- (a + b XX' + c XX'XX') X, with the factors before X gathered in a square matrix of
    the smaller side: for a kernel of nine times as many columns as rows that is less than half of the work.
    """
    a, b, c = _NS_COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide.float() / wide.norm().clamp_min(1e-7)
    gram, factors = wide @ wide.T, None
    for step in range(_NS_STEPS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        factors = factor if factors is None else factor @ factors
        if step + 1 < _NS_STEPS:
            gram = factor @ gram @ factor
    result = factors @ wide
    return result.T if matrix.shape[0] > matrix.shape[1] else result
