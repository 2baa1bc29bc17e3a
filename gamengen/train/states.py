"""What a checkpoint holds, and networks whose weights, gradients and optimizer states workers share (torch's FSDP2).

A checkpoint is whole in any case: any number of workers can take it up. What only sharding needs is imported there: it
takes two seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gamengen.models.denoisers import Denoiser
from gamengen.train.optimizers import Ema


def shard(network: nn.Module) -> nn.Module:
    """Share a denoiser, or all denoisers in a network, out over all workers, in place; each of their blocks is whole
    only while it computes.

    Each is shared out by itself, because sampling calls a denoiser's methods and not what it is part of.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    network.to(memory_format=torch.contiguous_format)  # it shards no other
    for block in _blocks(network):
        fully_shard(block)
    for denoiser in [module for module in network.modules() if isinstance(module, Denoiser)]:
        fully_shard(denoiser)
        for method in ("condition", "denoise"):
            register_fsdp_forward_method(denoiser, method)
    return network


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the entries of module lists that are no lists themselves: what networks are made of."""
    for child in network.children():
        if isinstance(child, nn.ModuleList) and not any(isinstance(entry, nn.ModuleList) for entry in child):
            yield from child
        else:
            yield from _blocks(child)


def whole(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as they would be on one worker, on the CPU if they are shared out; every worker must call it."""
    return {
        name: value.full_tensor().cpu() if hasattr(value, "full_tensor") else value for name, value in weights.items()
    }


def save(network: nn.Module, optimizers: Sequence[torch.optim.Optimizer], ema: Ema, step: int) -> dict[str, Any]:
    """Return the state of a training after a step; every worker must call it."""
    moved: list[Any] = [optimizer.state_dict() for optimizer in optimizers]
    if _is_sharded(network):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        moved = [get_optimizer_state_dict(network, optimizer, options=options) for optimizer in optimizers]
    return {"network": whole(network.state_dict()), "optimizers": moved, "ema": whole(ema.weights), "step": step}


def restore(state: dict[str, Any], network: nn.Module, optimizers: Sequence[torch.optim.Optimizer], ema: Ema) -> None:
    """Take up what `save` returned, but for the network's weights: they are loaded before it is sharded."""
    if _is_sharded(network):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
        from torch.distributed.tensor import distribute_tensor

        options = StateDictOptions(full_state_dict=True, strict=False)  # what had no gradient yet has no state
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            set_optimizer_state_dict(network, optimizer, saved, options=options)
            for name, parameter in network.named_parameters():
                if name not in saved["state"]:
                    optimizer.state.pop(parameter, None)  # it was given that of a step
        for name, value in ema.weights.items():
            there = state["ema"][name].to(value.device)
            is_shared = hasattr(value, "placements")
            ema.weights[name] = distribute_tensor(there, value.device_mesh, value.placements) if is_shared else there
        return
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    ema.weights = {name: state["ema"][name].to(value.device) for name, value in ema.weights.items()}


def _is_sharded(network: nn.Module) -> bool:
    return any(hasattr(parameter, "full_tensor") for parameter in network.parameters())
