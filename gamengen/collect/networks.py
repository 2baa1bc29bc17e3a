"""The networks that agents play with, in plain torch: RLlib trains them, and collection loads them without RLlib."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from gamengen import storage


class QNetwork(nn.Module):
    """Dueling action values: an encoder (an MLP for vectors, a CNN for uint8 images), then advantages and a value."""

    def __init__(self, observation_shape: Sequence[int], num_actions: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        sizes = list(hidden_sizes)
        self.arguments = [list(observation_shape), num_actions, sizes]
        if len(observation_shape) == 1:
            self.encoder = _mlp([observation_shape[0], *sizes])
        else:
            self.encoder = _ImageEncoder(observation_shape, sizes)
        self.advantage = nn.Linear(sizes[-1], num_actions)
        self.value = nn.Linear(sizes[-1], 1)

    def forward(self, observation: Tensor) -> Tensor:
        features = self.encoder(observation)  # [B, hidden]
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(dim=-1, keepdim=True)  # [B, actions]

    def best_action(self, observation: np.ndarray) -> int:
        """Return the index of the best action for one observation."""
        with torch.inference_mode():
            return int(self(torch.as_tensor(np.asarray(observation))[None]).argmax())


class _ImageEncoder(nn.Module):
    """The CNN of Mnih et al. 2015 over uint8 [B, H, W, C], then an MLP."""

    def __init__(self, shape: Sequence[int], sizes: list[int]) -> None:
        super().__init__()
        height, width, channels = shape
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(channels, 32, 8, stride=4), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()),
        )
        with torch.no_grad():
            features = self.convolutions(torch.zeros(1, channels, height, width)).shape[1]
        self.mlp = _mlp([features, *sizes])

    def forward(self, observation: Tensor) -> Tensor:
        return self.mlp(self.convolutions(observation.movedim(-1, 1).float() / 255))


def _mlp(sizes: list[int]) -> nn.Sequential:
    layers = [layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers)


def save(uri: str, network: QNetwork) -> None:
    """Write a network as safetensors; what is needed to build it stands in the file's metadata."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    storage.write_bytes(uri, safetensors.torch.save(weights, {"q_network": json.dumps(network.arguments)}))


def load(uri: str) -> QNetwork:
    """Read what `save` wrote; raises ValueError if it is something else."""
    data = storage.read_bytes(uri)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    if "q_network" not in header.get("__metadata__", {}):
        raise ValueError(f"{uri} is not an agent's network; expected the work of jobs.train_agent. Train it again.")
    network = QNetwork(*json.loads(header["__metadata__"]["q_network"]))
    network.load_state_dict(safetensors.torch.load(data))
    return network.eval().requires_grad_(False)
