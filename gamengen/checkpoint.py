"""A model folder: everything that a game needs to be played, as JSON and safetensors. Nothing is ever unpickled.

```
game.json                                  the GameSpec
autoencoder/{config.json,model.safetensors}
denoiser/{config.json,model.safetensors}   absent in a folder that holds an autoencoder alone
scheduler/config.json                      noise schedule, noise augmentation, sampler
starts.safetensors                         a few recorded beginnings to play from
provenance.json                            the run's config, git revision, figures, and the licence of its pictures
README.md                                  the model card, which says all this in words
```
The folder may be local, a URI such as `s3://bucket/run/denoiser`, or a name on the Hugging Face hub (gamengen.hub).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gamengen import hub, model_card, storage
from gamengen.game import GameSpec
from gamengen.models import autoencoders, denoisers
from gamengen.models.diffusion import Augmentation, Schedule
from gamengen.models.sampler import Sampler

FILES = ("*.json", "*.safetensors", model_card.NAME)


@dataclass(frozen=True)
class Architecture:
    """The name of an architecture and its settings, as in YAML."""

    name: str
    options: Mapping[str, Any]


@dataclass
class Model:
    """A game that has become a network.

    Attributes:
        scheduler: `schedule`, `augmentation` and `sampler` settings; see `sampler()`.
        start_frames: uint8 [N, T, H, W, 3], recorded beginnings; start_actions: int64 [N, T], those after each frame.
    """

    game: GameSpec
    autoencoder_architecture: Architecture
    autoencoder: nn.Module
    denoiser_architecture: Architecture | None = None
    denoiser: nn.Module | None = None
    context_length: int = 0
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    start_frames: Tensor | None = None
    start_actions: Tensor | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def sampler(self) -> Sampler:
        return build_sampler(self.scheduler)

    def save_pretrained(self, folder: str) -> None:
        """Write the folder; `game.json` comes last, so that a folder that has it is whole."""
        folder = folder.rstrip("/")
        _save_part(f"{folder}/autoencoder", self.autoencoder_architecture, self.autoencoder, {})
        if self.denoiser is not None:
            assert self.denoiser_architecture is not None
            extra = {"context_length": self.context_length}
            _save_part(f"{folder}/denoiser", self.denoiser_architecture, self.denoiser, extra)
            storage.write_json(f"{folder}/scheduler/config.json", dict(self.scheduler))
        if self.start_frames is not None:
            starts = {"frames": self.start_frames.contiguous(), "actions": self.start_actions.contiguous()}
            storage.write_bytes(f"{folder}/starts.safetensors", safetensors.torch.save(starts))
        storage.write_json(f"{folder}/provenance.json", {"git_revision": git_revision(), **self.provenance})
        model_card.write(folder, self.game)
        storage.write_bytes(f"{folder}/game.json", self.game.to_json().encode())

    def save_autoencoder(self, folder: str) -> None:
        """Put this model's autoencoder into a folder in place of the one that it has, and leave the rest alone."""
        _save_part(f"{folder.rstrip('/')}/autoencoder", self.autoencoder_architecture, self.autoencoder, {})

    @classmethod
    def from_pretrained(cls, folder: str) -> Model:
        """Load a folder or a model on the hub; raises ValueError that says which file is missing or damaged."""
        folder = hub.fetch(folder).rstrip("/")
        game = GameSpec.from_json(json.dumps(_json(f"{folder}/game.json", folder)))
        settings, state = _load_part(f"{folder}/autoencoder", folder)
        architecture = Architecture(settings["name"], settings["options"])
        with torch.device("meta"):  # the weights come from the folder: no memory for others
            autoencoder = autoencoders.build(architecture.name, architecture.options)
        _load_state(autoencoder, state, f"{folder}/autoencoder")
        model = cls(game, architecture, autoencoder.eval())
        if storage.exists(f"{folder}/denoiser/config.json"):
            model._load_denoiser(folder)
        if storage.exists(f"{folder}/starts.safetensors"):
            starts = _tensors(f"{folder}/starts.safetensors", folder)
            model.start_frames, model.start_actions = starts["frames"], starts["actions"]
        model.provenance = _json(f"{folder}/provenance.json", folder)
        return model

    def push_to_hub(self, name: str, *, private: bool = False) -> str:
        """Put the model on the Hugging Face hub as `<owner>/<name>` and return its address; see gamengen.hub.

        Raises:
            ValueError: the hub does not take it.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push_to_hub(folder, name, private=private)

    def _load_denoiser(self, folder: str) -> None:
        settings, state = _load_part(f"{folder}/denoiser", folder)
        self.context_length = settings["context_length"]
        self.denoiser_architecture = Architecture(settings["name"], settings["options"])
        with torch.device("meta"):
            self.denoiser = denoisers.build(
                settings["name"],
                settings["options"],
                num_actions=self.game.num_actions,
                latent_shape=self.autoencoder.latent_shape(self.game.height, self.game.width),
                context_length=self.context_length,
            ).eval()
        _load_state(self.denoiser, state, f"{folder}/denoiser")
        self.scheduler = _json(f"{folder}/scheduler/config.json", folder)


def push_to_hub(folder: str, name: str, *, private: bool = False) -> str:
    """Put a model folder on the hub as it is; see `Model.push_to_hub`.

    Raises:
        ValueError: it is no model folder, or the hub does not take it.
    """
    _json(f"{folder.rstrip('/')}/game.json", folder)
    return hub.push(folder, name, FILES, kind="model", private=private)


def build_sampler(settings: Mapping[str, Any]) -> Sampler:
    """Build the sampler that `scheduler/config.json` describes.

    Raises:
        ValueError: settings that this version does not have, or lacks.
    """
    try:
        return Sampler(
            schedule=Schedule.create(**settings["schedule"]),
            augmentation=Augmentation(**settings["augmentation"]),
            **{key: tuple(value) if isinstance(value, list) else value for key, value in settings["sampler"].items()},
        )
    except TypeError as error:
        raise ValueError(
            f"scheduler/config.json of the model: {error}; another version of gamengen has written it. Train the model "
            "again, or put the settings into it that this version's configs have."
        ) from None


def weights_fingerprint(folder: str, part: str) -> str:
    """Return a hash of the weights of `autoencoder` or `denoiser` in a model folder; raises FileNotFoundError."""
    return hashlib.sha256(storage.read_bytes(f"{folder}/{part}/model.safetensors")).hexdigest()


def git_revision() -> str:
    """Return the revision of the source tree, or "unknown" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _save_part(folder: str, architecture: Architecture, module: nn.Module, extra: Mapping[str, Any]) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    storage.write_bytes(f"{folder}/model.safetensors", safetensors.torch.save(state))
    settings = {"name": architecture.name, "options": dict(architecture.options), **extra}
    storage.write_json(f"{folder}/config.json", settings)


def _load_part(folder: str, model_folder: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    settings = _json(f"{folder}/config.json", model_folder)
    return settings, _tensors(f"{folder}/model.safetensors", model_folder)


def _load_state(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Give a module on the meta device its weights, in float32 and the format that convolutions are fastest in."""
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"the weights in {where} do not fit its config.json: {reason}") from None
    module.to(memory_format=torch.channels_last)


def _read(file: str, model_folder: str) -> bytes:
    try:
        return storage.read_bytes(file)
    except FileNotFoundError:
        raise ValueError(
            f"no {file.removeprefix(model_folder + '/')} in {model_folder}; expected a model folder. "
            "Train the model first (`python -m jobs.train`), or give the path of one."
        ) from None


def _json(file: str, model_folder: str) -> dict[str, Any]:
    data = _read(file, model_folder)
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); copy or train it again.") from None


def _tensors(file: str, model_folder: str) -> dict[str, Tensor]:
    """Read a safetensors file; one of this machine is mapped into memory instead of being read."""
    path = storage.local_path(file)
    try:
        if path is not None:
            return safetensors.torch.load_file(path)
        return safetensors.torch.load(_read(file, model_folder))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}); copy or train it again.") from None


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def cpu_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's weights on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}
