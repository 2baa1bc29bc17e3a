"""Replays a function of tensors as a CUDA graph: hundreds of small kernels started at once, without Python."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_WARM_UP = 3  # calls before a capture: libraries choose their kernels and take their workspace


def new_pool() -> Any:
    """Return a memory pool for graphs that run one after the other."""
    return torch.cuda.graph_pool_handle()


class CudaGraph:
    """Calls `function`, which maps tensors on a GPU to one tensor, by a graph for each shape of its arguments.

    The function must work on the device alone: no copy from or to the host, no size that depends on a value. What it
    returns is the caller's: a new tensor at every call. Where a graph cannot be made, the function is called as it is.
    """

    def __init__(self, function: Callable[..., Tensor], pool: Any) -> None:
        """Take a function over; graphs that never run at once may share the memory `pool` of `new_pool`."""
        self.function = function
        self.pool = pool
        self._graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor] | None] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        shapes = tuple(value.shape for value in inputs)
        if shapes not in self._graphs:
            self._graphs[shapes] = self._capture(inputs)
        captured = self._graphs[shapes]
        if captured is None:
            return self.function(*inputs)
        graph, places, output = captured
        for place, value in zip(places, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        return output.clone()

    def _capture(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor] | None:
        places = tuple(value.clone() for value in inputs)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self.function(*places)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool):
                output = self.function(*places)
        except RuntimeError as error:
            logger.warning("no CUDA graph, so every kernel is started by itself: %s", str(error).splitlines()[0])
            torch.cuda.synchronize()
            return None
        return graph, places, output
