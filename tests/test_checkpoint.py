"""A model folder: what is saved comes back, and what is wrong with one is a line that names the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from gamengen.checkpoint import Model, build_sampler


@pytest.fixture
def copy(model_folder: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def _fails(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        Model.from_pretrained(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(model_folder: str, tmp_path: Path) -> None:
    model = Model.from_pretrained(model_folder)
    model.provenance = {"figures": {"loss": 0.5}}
    model.save_pretrained(f"{tmp_path}/again/")
    again = Model.from_pretrained(str(tmp_path / "again"))
    assert again.game == model.game
    assert again.context_length == model.context_length
    assert again.scheduler == model.scheduler
    assert again.sampler().timesteps == model.sampler().timesteps
    assert again.provenance["figures"] == {"loss": 0.5}
    assert torch.equal(again.start_frames, model.start_frames)
    for part in ("autoencoder", "denoiser"):
        state, other = getattr(model, part).state_dict(), getattr(again, part).state_dict()
        assert state.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_the_scheduler_gives_the_config_s_sampler(model_folder: str, made) -> None:
    assert Model.from_pretrained(model_folder).sampler().timesteps == tuple(made.sampler.timesteps)
    assert Model.from_pretrained(f"{made.folder}/distilled").sampler().timesteps == tuple(made.fast_sampler.timesteps)


def test_the_sampler_of_another_version_is_one_line(model_folder: str) -> None:
    settings = Model.from_pretrained(model_folder).scheduler
    sampler = {key: value for key, value in settings["sampler"].items() if key != "noise_scales"}
    with pytest.raises(ValueError, match="noise_scale'; another version of gamengen"):
        build_sampler({**settings, "sampler": {**sampler, "noise_scale": 1.5}})


@pytest.mark.parametrize(
    "file",
    ["game.json", "autoencoder/config.json", "autoencoder/model.safetensors", "denoiser/model.safetensors",
     "scheduler/config.json", "provenance.json"],
)  # fmt: skip
def test_a_missing_file_is_named(copy: Path, file: str) -> None:
    (copy / file).unlink()
    message = _fails(copy)
    assert file in message and str(copy) in message and "Train the model" in message


def test_no_folder_at_all(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in _fails(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["denoiser/model.safetensors", "autoencoder/model.safetensors", "starts.safetensors"])
def test_damaged_weights_are_named(copy: Path, file: str) -> None:
    data = (copy / file).read_bytes()
    (copy / file).write_bytes(data[: len(data) // 2])
    assert file in _fails(copy) and "damaged" in _fails(copy)


def test_weights_of_another_shape_are_named(copy: Path) -> None:
    file = copy / "denoiser" / "model.safetensors"
    state = safetensors.torch.load_file(file)
    name = next(name for name, value in state.items() if value.ndim == 4)
    safetensors.torch.save_file(state | {name: state[name][:1].clone()}, file)
    message = _fails(copy)
    assert "denoiser" in message and name in message and "do not fit" in message


def test_an_architecture_that_is_gone_is_named(copy: Path) -> None:
    file = copy / "denoiser" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"name": "smal_unet"}))
    assert "did you mean 'small_unet'" in _fails(copy)


@pytest.mark.parametrize("file", ["game.json", "denoiser/config.json", "scheduler/config.json", "provenance.json"])
def test_half_a_json_is_named(copy: Path, file: str) -> None:
    (copy / file).write_text((copy / file).read_text()[:20])
    assert file in _fails(copy)


def test_nothing_is_unpickled(copy: Path) -> None:
    torch.save({"x": torch.zeros(1)}, copy / "denoiser" / "model.safetensors")
    assert "damaged" in _fails(copy)
