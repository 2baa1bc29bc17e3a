"""The train job on Ray Train: stages in their order, a killed worker, any number of workers, a second run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gamengen.checkpoint import Model
from gamengen.train import trainer
from tests.conftest import load_tiny

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


def _run(made, folder: Path, *overrides: str, models: tuple[str, ...] = ()):
    """A run of its own with the shared play, latents and the given models."""
    config = load_tiny(folder, *overrides)
    for part in ("gameplay", "latents", *models):
        shutil.copytree(f"{made.folder}/{part}", f"{config.folder}/{part}")
    return config


def _our_train_workers() -> list[int]:
    """Return the training workers that descend from this process, and nobody else's."""
    parents: dict[int, int] = {}
    workers = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                workers.append(int(folder.name))
        except OSError:
            continue

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    return [pid for pid in workers if is_ours(pid)]


def _losses(config, stage: str) -> list[float]:
    events = EventAccumulator(f"{config.folder}/tensorboard/{stage}")
    events.Reload()
    return [event.value for event in events.Scalars("loss")]


def test_the_stages_in_their_order_and_then_nothing_left(made, tmp_path: Path) -> None:
    config = _run(made, tmp_path)
    for stage, folder in trainer.FOLDERS.items():
        figures = trainer.train(config, stage)
        assert figures["stage"] == stage and not figures["resumed"]
        model = Model.from_pretrained(f"{config.folder}/{folder}")
        assert (model.denoiser is None) == (stage in ("autoencoder", "decoder"))
        if model.denoiser is not None:
            assert (
                model.sampler().timesteps == (config.fast_sampler if stage == "distill" else config.sampler).timesteps
            )
            assert len(model.start_frames) > 1
        json.dumps(figures)
    weights = [
        load_file(f"{config.folder}/{folder}/autoencoder/model.safetensors") for folder in trainer.FOLDERS.values()
    ]
    untuned, *tuned = weights  # the models that were there have the decoder that came last
    for name in untuned:
        is_tuned = name.startswith(("decoder.", "linear_decoder."))
        assert all(torch.equal(one[name], tuned[-1][name]) for one in tuned)
        assert torch.equal(untuned[name], tuned[-1][name]) != is_tuned, name
    before = {file: file.stat().st_mtime_ns for file in Path(config.folder).rglob("*.safetensors")}
    assert all(trainer.train(config, stage)["resumed"] for stage in trainer.FOLDERS)
    assert before == {file: file.stat().st_mtime_ns for file in Path(config.folder).rglob("*.safetensors")}


def test_one_and_two_workers_and_parts_learn_the_same_in_twenty_steps(made, tmp_path: Path) -> None:
    losses, weights = [], []
    settings = ("train.denoiser.steps=20", "train.denoiser.log_every=1", "train.denoiser.optimizer=adamw")
    for workers, parts in ((1, 1), (2, 2)):
        place = (f"train.num_workers={workers}", f"train.denoiser.accumulation={parts}")
        config = _run(made, tmp_path / str(workers), *settings, *place, models=("autoencoder",))
        trainer.train(config, "denoiser")
        losses.append(_losses(config, "denoiser"))
        weights.append(load_file(f"{config.folder}/denoiser/denoiser/model.safetensors"))
    assert len(losses[0]) == 20
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # rounding, which twenty steps of Adam have made larger
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-3) for name in weights[0])


def test_a_killed_worker_costs_nothing(made, tmp_path: Path) -> None:
    straight = _run(made, tmp_path / "straight", "train.denoiser.steps=40", models=("autoencoder",))
    trainer.train(straight, "denoiser")
    config = _run(made, tmp_path / "killed", "train.denoiser.steps=40", models=("autoencoder",))
    killed: list[int] = []

    def kill() -> None:
        while not list(Path(config.folder, "training").glob("denoiser-*/step_*")):
            time.sleep(0.02)
        for pid in _our_train_workers():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    trainer.train(config, "denoiser")
    thread.join(1)
    assert killed, "the worker was too fast to be killed"
    one, other = (load_file(f"{run.folder}/denoiser/denoiser/model.safetensors") for run in (straight, config))
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_a_training_goes_on_from_what_it_came_from_and_from_nothing_else(made, tmp_path: Path) -> None:
    few = ("train.distill.steps=4", "train.distill.checkpoint_every=4", "train.distill.unrolled_steps=0")
    config = _run(made, tmp_path, *few, models=("autoencoder", "denoiser"))
    trainer.train(config, "distill")
    other = load_tiny(tmp_path, *few, "train.distill.learning_rate=1.0e-5")
    with pytest.raises(ValueError, match=r"got 4: it is trained to step 4 with other settings .* expected more steps"):
        trainer.train(other, "distill")
    more = load_tiny(tmp_path, "train.distill.steps=6", *few[1:], "train.distill.learning_rate=1.0e-5")
    trainer.train(more, "distill")
    assert _losses(more, "distill")
    teacher = Path(config.folder, "denoiser", "denoiser", "model.safetensors")
    save_file({name: value * 1.01 for name, value in load_file(teacher).items()}, teacher)
    assert not trainer.train(config, "distill")["resumed"]
    assert len(list(Path(config.folder, "training").glob("distill-*"))) == 2


def test_what_is_missing_is_one_line(made, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no shards in .*gameplay"):
        trainer.train(load_tiny(tmp_path / "empty"), "autoencoder")
    config = _run(made, tmp_path / "no-teacher", models=("autoencoder",))
    with pytest.raises(ValueError, match=r"no denoiser in .*denoiser\. Train it first: stage=denoiser"):
        trainer.train(config, "distill")
    with pytest.raises(ValueError, match="unknown stage 'upscaler'"):
        trainer.train(config, "upscaler")
    lanes = _run(made, tmp_path / "lanes", "train.num_workers=3", models=("autoencoder",))
    with pytest.raises(ValueError, match="3 workers"):
        trainer.train(lanes, "denoiser")
    sharded = _run(made, tmp_path / "sharded", "train.num_workers=2", "train.sharded=true", models=("autoencoder",))
    with pytest.raises(ValueError, match=r"train\.sharded, got optimizer muon .*; expected adamw"):
        trainer.train(sharded, "denoiser")
