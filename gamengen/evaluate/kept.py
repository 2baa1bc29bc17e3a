"""Small networks that judge pictures: learnt once for a run, and kept in its folder as long as what they learn from."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import safetensors.torch
from torch import nn

from gamengen import storage

logger = logging.getLogger(__name__)
_Network = TypeVar("_Network", bound=nn.Module)


def prepare(
    folder: str, wanted: Mapping[str, Any], learn: Callable[[], tuple[nn.Module, Mapping[str, Any]]]
) -> Mapping[str, Any]:
    """Learn a network and keep it in a folder, unless the one there is of the same description.

    Args:
        wanted: what the network depends on, as JSON has it.
        learn: returns the network, and what is known of it.

    Returns:
        what is known of it.
    """
    if storage.exists(f"{folder}/config.json"):
        stored = storage.read_json(f"{folder}/config.json")
        if stored["of"] == wanted:
            return stored["known"]
    begun = time.perf_counter()
    network, known = learn()
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    storage.write_bytes(f"{folder}/model.safetensors", safetensors.torch.save(state))
    seconds = round(time.perf_counter() - begun, 1)
    storage.write_json(f"{folder}/config.json", {"of": wanted, "known": known, "seconds": seconds})
    logger.info("%s: learnt in %.0f s", folder.rpartition("/")[2], seconds)
    return known


def load(folder: str, network: _Network, *, use_gpu: bool) -> _Network:
    """Give a network the weights that are kept."""
    network.load_state_dict(safetensors.torch.load(storage.read_bytes(f"{folder}/model.safetensors")))
    return network.to("cuda" if use_gpu else "cpu").eval()
