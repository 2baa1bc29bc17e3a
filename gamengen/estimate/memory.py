"""What training a stage holds in each GPU's memory: a model of it, in which every part has a name.

Per weight that is trained: 4 bytes of float32, 4 of its gradient, the optimizer's state, 4 of the moving average; with
bfloat16, 2 of the copy that autocast computes with; with several GPUs that do not share the weights, 4 of the buckets
in which gradients travel. Frozen networks (a teacher) have their weights alone. Activations are what autograd keeps of
the examples on the GPU at once: counted in float32, and taken as `BF16_ACTIVATIONS` of it in bfloat16, in which
convolutions and products are but norms are not. With gradient checkpointing, what is kept between the blocks, and
`RECOMPUTED` of the rest for the one that is computed again. Sharded (FSDP2), weights, gradients, optimizer and average
are divided among the GPUs. A fixed gigabyte is for the context, kernels' workspaces and what fragments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from gamengen.config import Config
from gamengen.estimate.networks import Networks, matrices, num_gpus

BF16_ACTIVATIONS, RECOMPUTED, FIXED_BYTES = 0.65, 0.125, 1e9
BATCHES = (1, 4, 16, 64)


@dataclass(frozen=True)
class Held:
    """Bytes on one GPU."""

    weights: float
    gradients: float
    optimizer: float
    average: float
    copies: float
    activations: float

    @property
    def total(self) -> float:
        return sum(vars(self).values()) + FIXED_BYTES


def of_denoiser(
    config: Config, networks: Networks, *, batch: int, checkpointing: bool, sharded: bool, distills: bool = False
) -> Held:
    """Return what the stage `denoiser`, or `distill`, holds with `batch` windows at once on each GPU.

    Distillation has the teacher beside the generator and, where it matches distributions, the fake-score network, which
    is trained as the generator is.
    """
    networks_trained = 2 if distills and config.train.distill.matching_steps else 1
    teacher = networks.parameters["denoiser"] if distills else 0
    count, workers = networks_trained * networks.parameters["denoiser"], num_gpus(config)
    optimizer = (config.train.distill if distills else config.train.denoiser).optimizer
    is_bf16 = config.train.precision != "fp32"
    full = (networks.distilled if distills else networks.window).kept_bytes
    if checkpointing and networks.checkpointed is not None:
        full = networks.checkpointed.kept_bytes + RECOMPUTED * (full - networks.checkpointed.kept_bytes)
    share = workers if sharded else 1
    return Held(
        weights=4 * count / share + 4 * teacher,
        gradients=4 * count / share,
        optimizer=networks_trained * optimizer_bytes(networks.denoiser, optimizer) / share,
        average=4 * count / share,
        copies=(2 * count if is_bf16 else 0) / share + (4 * count if workers > 1 and not sharded else 0),
        activations=batch * full * (BF16_ACTIVATIONS if is_bf16 else 1.0),
    )


def optimizer_bytes(network: nn.Module, name: str) -> int:
    """Return the bytes of an optimizer's state: two numbers per weight for AdamW, one for Muon's matrices, and for
    Adafactor, of every matrix, its rows and columns."""
    total = sum(parameter.numel() for parameter in network.parameters())
    if name == "muon":
        return 8 * total - 4 * matrices(network)
    if name == "adafactor":
        return 4 * sum(_factored(tuple(parameter.shape)) for parameter in network.parameters())
    return 8 * total


def _factored(shape: tuple[int, ...]) -> int:
    size = math.prod(shape)
    return shape[0] + size // shape[0] if len(shape) > 1 else size


def settings(config: Config, networks: Networks) -> list[Mapping[str, float | str]]:
    """Return the gigabytes per GPU at several batches for every way to train the denoiser, and for distillation."""
    stage, workers = config.train.denoiser, num_gpus(config)
    batches = sorted({*BATCHES, max(1, stage.batch_size // (workers * stage.accumulation))})
    ways = [
        (sharded, checkpointing, False)
        for sharded in ((False, True) if workers > 1 else (False,))
        for checkpointing in ((False, True) if networks.checkpointed is not None else (False,))
    ]
    rows = []
    for sharded, checkpointing, distills in [*ways, (False, False, True)]:
        names = [f"sharded over {workers}"] * sharded + ["checkpointing"] * checkpointing + ["distillation"] * distills
        row: dict[str, float | str] = {"setting": ", ".join(names) or "plain"}
        for batch in batches:
            held = of_denoiser(
                config, networks, batch=batch, checkpointing=checkpointing, sharded=sharded, distills=distills
            )
            row[str(batch)] = round(held.total / 1e9, 2)
        rows.append(row)
    return rows
