"""What moves the weights: learning rates, optimizers, and the average of the weights over time."""

from __future__ import annotations

import math

import torch
from torch import nn

from gamengen.config import StageConfig
from gamengen.train.adafactor import Adafactor
from gamengen.train.muon import Muon


def learning_rate(settings: StageConfig, step: int) -> float:
    """Return the rate of a step (counted from 0): linear warm-up, then constant, or falling to zero at the end."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    if settings.schedule == "linear":
        return settings.learning_rate * (1 - done)
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate


def make_optimizers(network: nn.Module, settings: StageConfig) -> list[torch.optim.Optimizer]:
    """Build AdamW, Adafactor (GameNGen, section 4.2), or Muon for the kernels and matrices of layers beside AdamW for
    the rest.

    Only matrices and kernels are decayed.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    layers = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    by_muon = {id(weight) for weight in layers if settings.optimizer == "muon" and weight.requires_grad}
    parameters = [p for p in network.parameters() if p.requires_grad]
    rest = [p for p in parameters if id(p) not in by_muon]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    on_gpu = bool(parameters) and all(parameter.is_cuda for parameter in parameters)
    if settings.optimizer == "adafactor":
        return [Adafactor(groups, lr=rate)]
    adamw = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=on_gpu)
    if settings.optimizer == "adamw":
        return [adamw]
    return [Muon([p for p in parameters if id(p) in by_muon], lr=rate, weight_decay=decay), adamw]


class Ema:
    """Exponential moving average of a network's weights; the decay is lower at the start, as the weights move fast."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        state = network.state_dict()
        floating = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in floating], [state[name] for name in floating], 1 - decay)
        for name in state.keys() - set(floating):
            self.weights[name].copy_(state[name])
