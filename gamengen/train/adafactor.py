"""The Adafactor optimizer: AdamW's second moments from the means of every matrix's rows and columns alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_DECAY = -0.8  # the moments' part of a step's gradient is step ** _DECAY
_MIN_SIZE = 1e-3  # of a weight, to which updates are relative
_MAX_UPDATE = 1.0  # root mean square, before the rate


class Adafactor(torch.optim.Optimizer):
    """Adafactor (Shazeer and Stern, 2018) without momentum; matrices and vectors move as with torch's own.

    Torch's makes the moments of a matrix by a matrix product of inner size one, takes a kernel [out, in, 3, 3] for
    out * in matrices of 3x3, and brings every norm to the host: on an H100 that was over 200 of the 500 ms for which a
    step of 128 windows of Stable Diffusion's U-Net kept it busy. Here the moments are a broadcast product, a kernel is
    a matrix of `out` rows (whose moments are those of a row and a column, not two thirds of its weights), and nothing
    is waited for.

    Args:
        parameters: tensors or groups of them.
        lr: relative to the root mean square of a tensor's weights; at most one over the root of the steps.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(self, parameters: Iterable[Any], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; raises ValueError for one of torch's, which has no moments of a kernel as a matrix."""
        if any("row_var" in state or "variance" in state for state in state_dict["state"].values()):
            raise ValueError(
                "the checkpoint's Adafactor is torch's, as of an earlier version; expected ours. Give the run another "
                "name, or remove its training folder to begin again."
            )
        super().load_state_dict(state_dict)

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        state["step"] = state.get("step", 0) + 1
        means = _mean_squares(gradient)
        for name, mean in means.items() if state["step"] > 1 else ():  # the first ones are the moments
            means[name] = state[name].lerp_(mean, state["step"] ** _DECAY)
        state.update(means)
        epsilon = torch.finfo(parameter.dtype).eps
        size = _root_mean_square(parameter).clamp_min_(_MIN_SIZE)
        rate = size * min(group["lr"], state["step"] ** -0.5)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        update = _moments(means, epsilon).clamp_min_(epsilon**2).rsqrt_().mul_(gradient)
        rate /= (_root_mean_square(update) / _MAX_UPDATE).clamp_min_(1.0)
        parameter.sub_(update.mul_(rate))


def _mean_squares(gradient: Tensor) -> dict[str, Tensor]:
    """Return the means of a matrix's rows [rows, 1 ...] and columns [1, columns ...], or a vector's squares."""
    if gradient.ndim < 2:
        return {"squares": gradient.square()}
    rows = torch.linalg.vector_norm(gradient, dim=tuple(range(1, gradient.ndim)), keepdim=True)
    columns = torch.linalg.vector_norm(gradient, dim=0, keepdim=True)
    return {"rows": rows.square_().div_(gradient[0].numel()), "columns": columns.square_().div_(len(gradient))}


def _moments(means: dict[str, Tensor], epsilon: float) -> Tensor:
    """Return the second moment of every weight, a tensor of its own."""
    if "squares" in means:
        return means["squares"].clone()
    return means["rows"] / means["rows"].mean().clamp_min_(epsilon) * means["columns"]


def _root_mean_square(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values) / values.numel() ** 0.5
