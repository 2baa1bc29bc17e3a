"""Counts what a network computes and keeps, on the meta device: shapes alone, so 943M parameters take seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

FULL_BYTES = 4


@dataclass(frozen=True)
class Count:
    """Of one call: floating-point operations (a multiplication and an addition are two), the bytes of what autograd
    keeps for the backward pass, in float32 and without the weights, and how many weights are read."""

    flops: float
    kept_bytes: int
    weights: int


class _Attention(torch.autograd.Function):
    """Attention as GPUs do it, in which no matrix of all pairs of positions is kept; on the meta device."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(one) for one in ctx.saved_tensors[:3])


class _OnMeta(TorchFunctionMode):
    """Sees every call: which weights it reads, and attention; leaves out the random first weights, which on this device
    cost seconds of imports."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_flops = 0
        self.read: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "trunc_normal_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        given = (*args, *(kwargs or {}).values())
        self.read.update({id(one): one.numel() for one in given if isinstance(one, nn.Parameter)})
        if func is nn.functional.scaled_dot_product_attention:
            query, key, value = args[:3] if args else (kwargs[name] for name in ("query", "key", "value"))
            pairs = math.prod(query.shape[:-1]) * key.shape[-2]
            self.attention_flops += 2 * pairs * (query.shape[-1] + value.shape[-1])
            return _Attention.apply(query, key, value)
        return func(*args, **(kwargs or {}))


@contextmanager
def on_meta() -> Iterator[_OnMeta]:
    """Within, new tensors and networks have shapes and no numbers, and take no memory."""
    with torch.device("meta"), _OnMeta() as mode:
        yield mode


def count(network: nn.Module, call: Callable[[], Any]) -> Count:
    """Count a call of a network that was built within `on_meta`."""
    weights = {one.untyped_storage()._cdata for one in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}  # by storage; the tensors are held, so that no storage's place is taken again

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with on_meta() as mode, FlopCounterMode(display=False) as counter, hooks:
        call()
    total = counter.get_total_flops() + mode.attention_flops
    kept_bytes = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return Count(float(total), kept_bytes, sum(mode.read.values()))
