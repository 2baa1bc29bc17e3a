"""The networks that agents play with, in plain torch: RLlib trains them, and collection loads them without RLlib."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from gamengen import storage

Inputs = Mapping[str, Sequence[Any]]  # name of a part of the observation -> what `inputs_of` says about it
_WHOLE = "observation"  # the name of the only part


class Network(Protocol):
    """What an agent decides with; `arguments` (as JSON) build it again."""

    arguments: list[Any]

    def action(self, observation: Any, rng: np.random.Generator) -> int:
        """Return the index of the action for one observation; all chance comes from `rng`."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by their names."""


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

    def action(self, observation: np.ndarray, rng: np.random.Generator) -> int:
        """Return the index of the best action for one observation."""
        with torch.inference_mode():
            return int(self(torch.as_tensor(np.asarray(observation))[None]).argmax())


class ActorCritic(nn.Module):
    """The paper's agent (A.5): features of every part of the observation, then an actor and a critic on all of them.

    Args:
        inputs: the parts of the observation, see `inputs_of`.
        num_actions: of the game.
        channels: of the three convolutions of each image's CNN.
        features: of each image.
        action_features: of each past action; the paper does not say how they enter, here each has a learnt vector.
        hidden_sizes: of the actor and of the critic, which share nothing but the features.
    """

    def __init__(
        self,
        inputs: Inputs,
        num_actions: int,
        channels: Sequence[int],
        features: int,
        action_features: int,
        hidden_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.arguments = [dict(inputs), num_actions, list(channels), features, action_features, list(hidden_sizes)]
        self.encoders = nn.ModuleDict()
        width = 0
        for name, (kind, *shape) in inputs.items():
            if kind == "image":
                self.encoders[name] = _ImageEncoder(shape, [features], channels)
                width += features
            elif kind == "indices":
                self.encoders[name] = nn.Sequential(nn.Embedding(shape[0], action_features), nn.Flatten())
                width += shape[1] * action_features
            else:
                self.encoders[name] = nn.Identity()
                width += shape[0]
        self.actor = nn.Sequential(_mlp([width, *hidden_sizes]), nn.Linear(hidden_sizes[-1], num_actions))
        self.critic = nn.Sequential(_mlp([width, *hidden_sizes]), nn.Linear(hidden_sizes[-1], 1))
        self._initialise()

    def _initialise(self) -> None:
        """Start as PPO's usual implementations do: orthogonal, with an actor that hardly prefers anything."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.orthogonal_(module.weight, math.sqrt(2))
                nn.init.zeros_(module.bias)
        nn.init.orthogonal_(self.actor[1].weight, 0.01)
        nn.init.orthogonal_(self.critic[1].weight, 1.0)

    def features(self, observation: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return what the actor and the critic see, [B, features]."""
        parts = observation if isinstance(observation, Mapping) else {_WHOLE: observation}
        return torch.cat([encoder(parts[name]) for name, encoder in self.encoders.items()], dim=-1)

    def forward(self, observation: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        features = self.features(observation)
        return self.actor(features), self.critic(features)[:, 0]  # logits [B, actions], values [B]

    def action(self, observation: Any, rng: np.random.Generator) -> int:
        """Draw the index of an action, as in training: the best one alone would stick to a wall."""
        parts = observation if isinstance(observation, Mapping) else {_WHOLE: observation}
        with torch.inference_mode():
            features = self.features({name: torch.as_tensor(np.asarray(part))[None] for name, part in parts.items()})
            chances = self.actor(features)[0].double().softmax(dim=-1).numpy()
        return int(rng.choice(len(chances), p=chances / chances.sum()))


def inputs_of(space: gymnasium.Space) -> dict[str, list[Any]]:
    """Describe an observation space for an `ActorCritic`, part by part.

    Returns:
        name -> ["image", H, W(, C)] of uint8, ["indices", count, length] of integers, or ["vector", length] of floats.

    Raises:
        ValueError: something else is to be seen.
    """
    parts = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {_WHOLE: space}
    inputs: dict[str, list[Any]] = {}
    for name, part in parts.items():
        if isinstance(part, gymnasium.spaces.Box) and part.dtype == np.uint8 and len(part.shape) in (2, 3):
            inputs[name] = ["image", *part.shape]
        elif isinstance(part, gymnasium.spaces.Box) and part.dtype.kind == "i" and len(part.shape) == 1:
            inputs[name] = ["indices", int(part.high.max()) + 1, *part.shape]
        elif isinstance(part, gymnasium.spaces.Box) and part.dtype.kind == "f" and len(part.shape) == 1:
            inputs[name] = ["vector", *part.shape]
        else:
            raise ValueError(
                f"observation {name!r}, got {part}; expected images (uint8), vectors of floats or of indices. "
                "Take another agent.observation."
            )
    return inputs


class _ImageEncoder(nn.Module):
    """The CNN of Mnih et al. 2015 over uint8 [B, H, W(, C)], then an MLP."""

    def __init__(self, shape: Sequence[int], sizes: list[int], channels: Sequence[int] = (32, 64, 64)) -> None:
        super().__init__()
        height, width, colours = (*shape, 1)[:3]
        first, second, third = channels
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(colours, first, 8, stride=4), nn.ReLU()),
            *(nn.Conv2d(first, second, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(second, third, 3), nn.ReLU(), nn.Flatten()),
        )
        with torch.no_grad():
            features = self.convolutions(torch.zeros(1, colours, height, width)).shape[1]
        self.mlp = _mlp([features, *sizes])

    def forward(self, observation: Tensor) -> Tensor:
        image = observation.movedim(-1, 1) if observation.ndim == 4 else observation[:, None]
        return self.mlp(self.convolutions(image.float() / 255))


def _mlp(sizes: Sequence[int]) -> nn.Sequential:
    layers = [layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers)


_KINDS: dict[str, type[nn.Module]] = {"q_network": QNetwork, "actor_critic": ActorCritic}


def save(uri: str, network: Network) -> None:
    """Write a network as safetensors; its kind and what is needed to build it stand in the file's metadata."""
    (kind,) = [name for name, owner in _KINDS.items() if type(network) is owner]
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    storage.write_bytes(uri, safetensors.torch.save(weights, {kind: json.dumps(network.arguments)}))


def load(uri: str) -> Network:
    """Read what `save` wrote; raises ValueError if it is something else."""
    data = storage.read_bytes(uri)
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    kinds = [kind for kind in _KINDS if kind in metadata]
    if len(kinds) != 1:
        raise ValueError(f"{uri} is not an agent's network; expected the work of jobs.train_agent. Train it again.")
    network: Any = _KINDS[kinds[0]](*json.loads(metadata[kinds[0]]))
    network.load_state_dict(safetensors.torch.load(data))
    return network.eval().requires_grad_(False)
