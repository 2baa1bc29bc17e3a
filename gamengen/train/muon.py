"""The Muon optimizer for convolutions and linear layers: momentum whose every update is made orthogonal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
        """Update every parameter that has a gradient; on a GPU those of one shape together, for fewer kernels."""
        assert closure is None
        for group in self.param_groups:
            together: dict[Any, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    key = parameter.shape if parameter.is_cuda else id(parameter)
                    together.setdefault(key, []).append(parameter)
            for parameters in together.values():
                self._update(parameters, group)

    def _update(self, parameters: list[nn.Parameter], group: dict[str, float]) -> None:
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = [one.flatten(1) for one in torch._foreach_lerp(gradients, momenta, group["momentum"])]
        size = _RMS * max(ahead[0].shape) ** 0.5
        # one alone is no stack of one: a CPU's product of two matrices is faster than that of two stacks
        results = orthogonalised(torch.stack(ahead)) if len(ahead) > 1 else [orthogonalised(ahead[0])]
        updates = [result.reshape(parameters[0].shape) for result in results]
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"] * size)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return matrices [(N,) rows, columns] of the same singular vectors and all singular values near one (0.7 to 1.2).

    The Newton-Schulz iteration X <- (a + b XX' + c XX'XX') X, with the factors before X gathered in a square matrix of
    the smaller side: for a kernel of nine times as many columns as rows that is less than half of the work.
    """
    a, b, c = _NS_COEFFICIENTS
    upright = matrices.shape[-2] > matrices.shape[-1]
    wide = (matrices.mT if upright else matrices).float()
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    multiply_add = torch.addmm if wide.ndim == 2 else torch.baddbmm
    gram, factors = wide @ wide.mT, None
    for step in range(_NS_STEPS):
        factor = multiply_add(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        factors = factor if factors is None else factor @ factors
        if step + 1 < _NS_STEPS:
            gram = factor @ gram @ factor
    result = factors @ wide
    return result.mT if upright else result
