"""What is estimated before a run is what the run then is, as far as a CPU can tell; and the paper's own figures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gamengen import config as configs
from gamengen.checkpoint import Model, count_parameters
from gamengen.estimate import hardware, memory, networks
from gamengen.estimate.counting import count, on_meta
from gamengen.estimate.estimate import estimate, text
from gamengen.models import denoisers
from gamengen.train.loop import make_optimizers
from tests.conftest import ROOT, load_tiny

SD = ("autoencoder.name=sd", "autoencoder.options={}", "denoiser.name=unet", "denoiser.options={}")
SMALL_UNET = {"channels": [32, 32], "attention": [True, False], "layers_per_block": 1, "heads": 2, "token_channels": 16}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_can_be_estimated(path: Path) -> None:
    config = configs.load(path)
    if config.game.name == "doom":
        pytest.importorskip("vizdoom")
    found = estimate(config)
    assert json.loads(json.dumps(found)) == found
    assert found["gpu_hours"] >= 0 and found["bytes_on_disk"] > 0
    assert all(row["seconds"] is None or row["seconds"] >= 0 for row in found["phases"])
    written = text(found)
    assert "GameNGen" in written and "GPU-hours" in written and max(map(len, written.splitlines())) < 130


def test_the_paper_s_sizes_give_the_paper_s_figures(tmp_path: Path) -> None:
    paper = ("sampler.guidance_scale=1.5", "train.denoiser.draws_per_window=1", "denoiser.context_length=64")
    amounts = ("train.denoiser.steps=700000", "train.denoiser.batch_size=128", "train.num_workers=8")
    game = ("game.name=recorded", "collect.import=/nowhere")
    options = "game.options={height: 256, width: 320, frames_per_second: 20, actions: [none, left]}"
    config = load_tiny(tmp_path, *SD, *paper, *amounts, *game, options, "train.precision=bf16", "train.num_lanes=8")
    found = estimate(config, "H200", mfu=0.5 * 790 / 989)  # half of what a large product reaches
    assert found["gflops"]["step"] == pytest.approx(228.0, rel=1e-3)
    assert found["gflops"]["decode"] == pytest.approx(778.4, rel=1e-3)
    assert found["gflops"]["encode"] == pytest.approx(341.6, rel=1e-3)
    assert sum(found["parameters"].values()) / 1e6 == pytest.approx(943.7, abs=0.5)
    assert found["frames_per_second_at_most"]["normal"] == pytest.approx(304, abs=1)
    denoiser = next(row for row in found["phases"] if row["name"] == "denoiser")
    assert denoiser["flops"] == pytest.approx(6.1e19, rel=0.01) and denoiser["device_hours"] == pytest.approx(
        43, abs=0.3
    )


def test_play_with_four_times_the_pixels_takes_four_times_as_long(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")

    def played(supersampling: int) -> float:
        options = f"game.options={{levels: defend_the_center, supersampling: {supersampling}}}"
        found = estimate(load_tiny(tmp_path, "game.name=doom", options))
        return next(row["seconds"] for row in found["phases"] if row["name"] == "collect")

    assert played(2) == pytest.approx(4 * played(1))


@pytest.mark.parametrize("stage", ["denoiser", "distill"])
def test_frames_of_the_network_s_own_are_counted(tmp_path: Path, stage: str) -> None:
    def counted(*overrides: str) -> tuple[float, float]:
        settings = [f"train.{stage}.{setting}" for setting in ("steps=8", "batch_size=4", *overrides)]
        config = load_tiny(tmp_path, *settings)
        found = estimate(config, "H200")
        row = next(row for row in found["phases"] if row["name"] == stage)
        sampler = config.fast_sampler if stage == "distill" else config.sampler
        return row["flops"], found["gflops"]["past"] + len(sampler.timesteps) * found["gflops"]["step"]

    without, _ = counted()
    with_them, frame = counted("unrolled_steps=2", "unrolled_every=2")
    made = 2 * 2  # steps, frames of each
    assert with_them - without == pytest.approx(made * frame * 1e9, abs=made * 3e6)  # two figures are rounded


@pytest.mark.parametrize(("name", "options"), [("small_unet", None), ("unet", SMALL_UNET)])
def test_counted_without_numbers_is_counted_with_them(tmp_path: Path, name: str, options: dict | None) -> None:
    config = load_tiny(tmp_path)
    options = options or dict(config.denoiser.options)
    sizes = {"num_actions": 3, "latent_shape": (4, 16, 16), "context_length": 4}
    real = denoisers.build(name, options, **sizes)
    with on_meta():
        shape = denoisers.build(name, options, **sizes)

    def inputs(device: str) -> list[torch.Tensor]:
        whole = [torch.zeros(2, dtype=torch.long, device=device) for _ in range(2)]
        context = torch.zeros(2, 4, 4, 16, 16, device=device)
        actions = torch.zeros(2, 4, dtype=torch.long, device=device)
        return [torch.zeros(2, 4, 16, 16, device=device), whole[0], context, actions, whole[1]]

    with FlopCounterMode(display=False) as counter:
        real(*inputs("cpu"))
    counted = count(shape, lambda: shape(*inputs("meta")))
    assert counted.flops == counter.get_total_flops()
    assert counted.weights == count_parameters(real)
    kept: dict[int, int] = {}
    owned = {parameter.untyped_storage().data_ptr() for parameter in real.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = real(*inputs("cpu"))
    assert counted.kept_bytes == pytest.approx(sum(kept.values()), rel=0.1) and result.shape == (2, 4, 16, 16)


@pytest.mark.parametrize("name", ["adamw", "muon", "adafactor"])
def test_an_optimizer_s_state_is_as_large_as_is_said(made, name: str) -> None:
    settings = configs.load(ROOT / "configs" / "quickstart.yaml", [f"train.denoiser.optimizer={name}"]).train.denoiser
    network = Model.from_pretrained(f"{made.folder}/denoiser").denoiser
    optimizers = make_optimizers(network, settings)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    held = sum(value.nbytes for state in states for value in state.values() if torch.is_tensor(value) and value.ndim)
    assert memory.optimizer_bytes(network, name) == pytest.approx(held, rel=0.01)


def test_what_is_made_has_the_size_that_was_told(made) -> None:
    """The tiny run's models, latents and play against its estimate."""
    found = estimate(made, "cpu")
    model = Model.from_pretrained(f"{made.folder}/denoiser")
    assert found["parameters"]["denoiser"] == count_parameters(model.denoiser)
    assert found["parameters"]["autoencoder"] == count_parameters(model.autoencoder)
    shape = model.autoencoder.latent_shape(model.game.height, model.game.width)
    encoded = next(row for row in found["phases"] if row["name"] == "encode")
    assert encoded["bytes_on_disk"] == encoded["frames"] * math.prod(shape) * 2


def test_sharding_and_checkpointing_save_what_they_are_for(tmp_path: Path) -> None:
    options = json.dumps({**SMALL_UNET, "gradient_checkpointing": False})
    network = ("denoiser.name=unet", f"denoiser.options={options}", "train.num_workers=4")
    config = load_tiny(tmp_path, *network, "train.distill.matching_steps=2")
    counted = networks.of(config, config.game_spec())
    plain = memory.of_denoiser(config, counted, batch=8, checkpointing=False, sharded=False)
    sharded = memory.of_denoiser(config, counted, batch=8, checkpointing=False, sharded=True)
    checkpointed = memory.of_denoiser(config, counted, batch=8, checkpointing=True, sharded=False)
    assert sharded.weights == plain.weights / 4 and sharded.activations == plain.activations
    assert checkpointed.activations < 0.7 * plain.activations and checkpointed.weights == plain.weights
    distilled = memory.of_denoiser(config, counted, batch=8, checkpointing=False, sharded=False, distills=True)
    assert distilled.weights == 3 * plain.weights and distilled.average == 2 * plain.average
    ways = [row["setting"] for row in memory.settings(config, counted)]
    assert ways == ["plain", "checkpointing", "sharded over 4", "sharded over 4, checkpointing", "distillation"]


def test_a_slower_gpu_and_a_smaller_share_take_longer(tmp_path: Path) -> None:
    config = load_tiny(tmp_path, "train.use_gpu=true", "encode.use_gpu=true")
    hours = [estimate(config, gpu, mfu)["gpu_hours"] for gpu, mfu in (("H200", 0.5), ("H200", 0.25), ("T4", 0.25))]
    assert hours[0] <= hours[1] <= hours[2]
    config = load_tiny(tmp_path, "train.precision=fp32")
    assert estimate(config, "A100")["peak_tflops"] == pytest.approx(hardware.DEVICES["A100"].fp32 / 1e12)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["gpu=h200"], "unknown GPU, got 'h200'; did you mean 'H200'?"), (["mfu=40"], "mfu, got 40.0; expected a share")],
)
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "jobs.estimate", "--config", "configs/quickstart.yaml", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 2 and ended.stderr.startswith(f"error: {says}") and len(ended.stderr.splitlines()) == 1
