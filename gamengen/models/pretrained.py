"""Loads networks in diffusers' format, from a hub or from a local folder; never unpickles, and knows no game."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import huggingface_hub
import torch
from diffusers import ModelMixin

_Network = TypeVar("_Network", bound=ModelMixin)


def load(network: type[_Network], source: str, subfolder: str | None, setting: str) -> _Network:
    """Load a diffusers network as float32, from one safetensors file or shards of it, full or half precision.

    Args:
        source: a hub id such as CompVis/stable-diffusion-v1-4, or a local folder.
        subfolder: where a pipeline keeps the network; a `source` that has it not is taken for the network's own folder.
        setting: the setting that names the source, for messages.

    Raises:
        ValueError: no such weights here, and no hub that has them within reach.
    """
    folder = Path(source).expanduser()
    is_local = folder.is_dir()
    if is_local and subfolder is not None and not (folder / subfolder).is_dir():
        subfolder = None
    attempts = [(subfolder, None), (subfolder, "fp16"), (None, None)]
    if is_local:  # one look says which
        here = folder / (subfolder or "")
        attempts = [(subfolder, None if list(here.glob("*_model.safetensors*")) else "fp16")]
    reasons = []
    for place, variant in attempts:
        try:
            return network.from_pretrained(
                str(folder) if is_local else source,
                subfolder=place,
                variant=variant,
                use_safetensors=True,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,  # what else diffusers does needs another package
            )
        except (OSError, ValueError) as error:
            reasons.append(" ".join(str(error).split())[:200])
    raise ValueError(
        f"cannot load the weights of {network.__name__}, got {setting}={source!r}; expected a folder in diffusers' "
        f"format with safetensors or a hub id within reach ({reasons[0]}). Where there is a network, run "
        f"`hf download {'<id>' if is_local else source} --include '{subfolder or ''}*' --local-dir <folder>` and set "
        f"{setting}=<folder>, or {setting}=null to train from random weights."
    )


def is_here(source: str, subfolder: str) -> bool:
    """Whether a hub id's network was downloaded before, or a local folder exists; asks no hub."""
    if Path(source).expanduser().is_dir():
        return True
    try:
        return isinstance(huggingface_hub.try_to_load_from_cache(source, f"{subfolder}/config.json"), str)
    except ValueError:  # a path, not an id
        return False


def check_sizes(loaded: Mapping[str, Any], expected: Mapping[str, Any], source: str, setting: str) -> None:
    """Raise ValueError where a pretrained network is of other sizes than the config says."""
    for name, value in expected.items():
        found = loaded[name]
        found = tuple(found) if isinstance(found, list) else found
        if found != value:
            raise ValueError(
                f"{source} has {name} {found}, got {value} from the config; expected the same. Change the sizes in "
                f"{setting.rpartition('.')[0]}, or set {setting}=null."
            )
