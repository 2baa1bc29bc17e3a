"""Plays a model: actions in, frames out, for any number of players at once. What is evaluated is what is served."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gamengen.checkpoint import Model
from gamengen.game import GameSpec
from gamengen.models import autoencoders, cuda_graph
from gamengen.models.cuda_graph import CudaGraph
from gamengen.models.precision import fastest
from gamengen.models.sampler import Sampler

_ENCODED_AT_ONCE = 64  # frames: long contexts of many games together would not fit


@dataclass(frozen=True)
class EngineState:
    """The game of B players: a value. A step gives a new one, so that saving, rewinding and forking are assignments.

    Attributes:
        context: latents [B, L, C, h, w] on the engine's device, oldest first.
        actions: int64 [B, L]; the last entry is not yet known and is filled by the next step.
        seeds: one per player; frames: steps played. Both together give the noise of the next step, so a player's game
            depends on nobody else's.
    """

    context: Tensor
    actions: Tensor
    seeds: tuple[int, ...]
    frames: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.seeds)

    @staticmethod
    def stack(states: Sequence[EngineState]) -> EngineState:
        """Join the games of several players into one batch."""
        return EngineState(
            torch.cat([state.context for state in states]),
            torch.cat([state.actions for state in states]),
            tuple(seed for state in states for seed in state.seeds),
            tuple(count for state in states for count in state.frames),
        )

    def split(self) -> list[EngineState]:
        """Return one state per player."""
        return [
            EngineState(self.context[i : i + 1], self.actions[i : i + 1], self.seeds[i : i + 1], self.frames[i : i + 1])
            for i in range(len(self))
        ]


class GameEngine:
    """Generates the next frame from the last L frames and actions (GameNGen, section 3).

    The engine holds the networks and no game: `reset` begins games and `step` goes on with them. What goes in are
    frames as they were recorded, with the game's padding; what comes out is to be looked at, and has none.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str = "cpu",
        sampler: Sampler | None = None,
        precision: torch.dtype | None = None,
        compile: bool = False,
    ) -> None:
        """Take the model over: its networks are moved, and changed for inference.

        Args:
            precision: of weights and activations, by default what the device computes fastest in; latents are float32
                in any case. A trained Dino's frames in bfloat16 are 62 dB from those in float32, far above any model.
            compile: use torch.compile, which takes a minute or more at the first step and makes the later ones faster.
        """
        if model.denoiser is None:
            raise ValueError("this model folder holds an autoencoder alone; expected one with a denoiser.")
        self.model = model
        self.game: GameSpec = model.game
        self.device = torch.device(device)
        on_gpu = self.device.type == "cuda"
        self.precision = precision or fastest(self.device)
        self.autoencoder = _for_inference(model.autoencoder, self.device, self.precision)
        self.denoiser = _for_inference(model.denoiser, self.device, self.precision)
        if on_gpu:
            torch.backends.cudnn.benchmark = True  # shapes are static: the fastest kernel is looked for once
            self.denoiser.fuse()
        self.sampler = sampler or model.sampler()
        self.context_length = model.context_length
        self.latent_shape = self.autoencoder.latent_shape(self.game.height, self.game.width)
        if compile:
            self.denoiser.denoise = torch.compile(self.denoiser.denoise, dynamic=False)
            self.autoencoder.decode = torch.compile(self.autoencoder.decode, dynamic=False)
        self._sample, self._show = self._sampled, self._shown
        if on_gpu:
            pool = cuda_graph.new_pool()
            self._sample, self._show = (CudaGraph(part, pool) for part in (self._sample, self._show))

    @classmethod
    def from_pretrained(
        cls,
        folder: str,
        *,
        device: str = "cpu",
        sampler: Sampler | None = None,
        precision: torch.dtype | None = None,
        compile: bool = False,
    ) -> GameEngine:
        """Load a model folder; raises ValueError with one clear line if it is missing or damaged."""
        model = Model.from_pretrained(folder)
        return cls(model, device=device, sampler=sampler, precision=precision, compile=compile)

    @property
    def num_starts(self) -> int:
        """Recorded beginnings in the model folder."""
        return 0 if self.model.start_frames is None else len(self.model.start_frames)

    def reset(self, starts: Sequence[int], seeds: Sequence[int]) -> tuple[np.ndarray, EngineState]:
        """Begin one game per entry from the recorded beginning `starts[i]` (modulo their number).

        Returns:
            The beginnings' last frames, uint8 [B, visible H, W, 3], and the state.

        Raises:
            ValueError: the model folder has no beginnings.
        """
        if not self.num_starts:
            raise ValueError("this model folder has no starts.safetensors, so there is no frame to begin with.")
        chosen = [start % self.num_starts for start in starts]
        frames, actions = self.model.start_frames[chosen], self.model.start_actions[chosen]
        return self.game.visible(frames[:, -1]).numpy(), self.begin(frames.numpy(), actions.numpy()[:, :-1], seeds)

    @torch.inference_mode()
    def begin(self, frames: np.ndarray, actions: np.ndarray, seeds: Sequence[int]) -> EngineState:
        """Begin games from real frames.

        Args:
            frames: uint8 [B, T, H, W, 3], oldest first, T >= 1; a past shorter than L is padded as in training.
            actions: int [B, T-1], those between the frames.
            seeds: one per game.
        """
        batch, length = frames.shape[:2]
        recent = torch.from_numpy(np.ascontiguousarray(frames[:, -self.context_length :])).to(self.device)
        parts = recent.flatten(0, 1).split(_ENCODED_AT_ONCE)
        latents = torch.cat([self.autoencoder.encode(autoencoders.to_images(part)) for part in parts])
        latents = latents.unflatten(0, (batch, -1))
        return self.begin_latents(latents, torch.as_tensor(np.asarray(actions).reshape(batch, length - 1)), seeds)

    def begin_latents(self, latents: Tensor, actions: Tensor, seeds: Sequence[int]) -> EngineState:
        """As `begin`, from latents [B, T, C, h, w]."""
        batch, length = latents.shape[0], self.context_length
        latents = latents[:, -length:]
        first = latents[:, :1].expand(-1, length - latents.shape[1], -1, -1, -1)
        unknown = torch.zeros(batch, 1, dtype=torch.long)
        played = torch.cat([torch.zeros(batch, length, dtype=torch.long), actions.long().cpu(), unknown], dim=1)
        return EngineState(
            torch.cat([first, latents], dim=1), played[:, -length:].to(self.device), tuple(seeds), (0,) * batch
        )

    def step(self, state: EngineState, actions: Sequence[int]) -> tuple[np.ndarray, EngineState]:
        """Play one frame: returns the next frames, uint8 [B, visible H, W, 3], and the next state.

        Raises:
            ValueError: an action that the game does not have.
        """
        latents, following = self.step_latents(state, actions)
        return self.decode(latents), following

    @torch.inference_mode()
    def step_latents(self, state: EngineState, actions: Sequence[int]) -> tuple[Tensor, EngineState]:
        """As `step`, returning latents [B, C, h, w]."""
        if len(actions) != len(state) or not all(0 <= action < self.game.num_actions for action in actions):
            raise ValueError(
                f"{len(state)} actions of 0 ... {self.game.num_actions - 1} are needed, got {list(actions)}."
            )
        played = state.actions.clone()
        for player, action in enumerate(actions):
            played[player, -1].fill_(action)  # the number goes along with the kernel that writes it: no copy
        noise = self._noise(state)
        latents = self._sample(self.sampler.corrupt(state.context, noise), played, noise)
        following = dataclasses.replace(
            state,
            context=torch.cat([state.context[:, 1:], latents[:, None]], dim=1),
            actions=torch.cat([played[:, 1:], torch.zeros_like(played[:, :1])], dim=1),
            frames=tuple(count + 1 for count in state.frames),
        )
        return latents, following

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents [B, C, h, w] -> frames uint8 [B, visible H, W, 3]."""
        return self._show(latents).cpu().numpy()

    def _sampled(self, context: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        return self.sampler.sample(self.denoiser, context, actions, noise)

    def _shown(self, latents: Tensor) -> Tensor:
        images = self.autoencoder.decode(latents)  # [B, 3, H, W]
        return autoencoders.to_frames(images[:, :, self.game.visible_rows])

    def _noise(self, state: EngineState) -> Tensor:
        """Return every player's noise [B, C, h, w], drawn on the device from his seed and frame."""
        noise = torch.empty(len(state), *self.latent_shape, device=self.device)
        for player, (seed, count) in enumerate(zip(state.seeds, state.frames, strict=True)):
            generator = torch.Generator(self.device).manual_seed((seed * 1_000_003 + count) & (2**63 - 1))
            noise[player].normal_(generator=generator)
        return noise


def _for_inference(network: nn.Module, device: torch.device, precision: torch.dtype) -> nn.Module:
    """Move a network; its weights take the precision, what is measured (the latents' scale) keeps its own."""
    for parameter in network.parameters():
        parameter.data = parameter.data.to(device, precision)
    return network.to(device).eval().requires_grad_(False)
