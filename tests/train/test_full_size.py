"""The paper's model at its full size, 944M parameters, on a CPU: it takes pretrained weights over, trains and plays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAX_GIGABYTES = 20
FRAME = 64  # pixels of a side: the parameters are all there, the activations are small


def train_and_play(folder: Path) -> dict:
    """Run in a Python of its own, whose memory is the model's alone."""
    import dataclasses
    import resource

    import torch

    from gamengen import config as configs
    from gamengen.checkpoint import Architecture, Model, count_parameters
    from gamengen.engine import GameEngine
    from gamengen.game import GameSpec
    from gamengen.models import autoencoders
    from gamengen.train import denoiser as stage
    from gamengen.train.loop import fit

    write_weights(folder)
    options = [f"{part}.options.pretrained={folder}" for part in ("autoencoder", "denoiser")]
    config = configs.load(
        ROOT / "configs" / "tier3_full_doom.yaml", [*options, "train.denoiser.batch_size=1", "train.num_lanes=1"]
    )
    game = GameSpec("small", FRAME, FRAME, 20.0, 1, ("none", "left", "right"), {})
    autoencoder = autoencoders.build(config.autoencoder.name, config.autoencoder.options)
    autoencoder.load_pretrained()
    objective = stage.objective(config, game, [])
    context = config.denoiser.context_length
    shape = stage.latent_shape(config, game)
    latents, target = torch.randn(1, context, *shape), torch.randn(1, *shape)
    batch = latents, torch.zeros(1, context, dtype=torch.long), target, torch.zeros(1, dtype=torch.long)
    objective = dataclasses.replace(objective, batches=lambda step, rank, world: iter([batch] * 2))
    objective.network.to(torch.bfloat16)  # half the memory and time of float32, which a real training keeps
    widened = objective.network.unet.conv_in.weight[:, shape[0] :]
    begins_at_zero = not widened.any().item()
    settings = dataclasses.replace(config.train.denoiser, steps=2, warmup_steps=1, optimizer="adamw", log_every=1)
    losses = []
    fit(
        objective,
        settings,
        device=torch.device("cpu"),
        report=lambda progress: losses.append(progress.loss),
    )
    network = objective.network
    model = Model(
        game,
        Architecture(config.autoencoder.name, config.autoencoder.options),
        autoencoder,
        Architecture(config.denoiser.name, config.denoiser.options),
        network,
        context,
        stage.scheduler_settings(config),
    )
    learnt = network.unet.conv_in.weight[:, shape[0] :].abs().sum().item()
    parameters = count_parameters(network) + count_parameters(autoencoder)
    engine = GameEngine(model, precision=torch.bfloat16)
    state = engine.begin_latents(batch[0], torch.zeros(1, context - 1), [0])
    frames, _ = engine.step(state, [1])
    return {
        "parameters": parameters,
        "begins_at_zero": begins_at_zero,
        "learnt": learnt,
        "losses": losses,
        "frame": list(frames.shape),
        "deviation": float(frames.std()),
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def write_weights(folder: Path) -> None:
    """Write a folder in Stable Diffusion's format: its sizes, half precision, values of one small random block."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    block = 0.02 * torch.randn(2**20, generator=torch.Generator().manual_seed(0), dtype=torch.float32).half()
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        vae = AutoencoderKL(**kinds, block_out_channels=(128, 256, 512, 512), layers_per_block=2)
    for name, network in (("unet", unet), ("vae", vae)):
        network.half().to_empty(device="cpu")
        for parameter in network.parameters():
            flat = parameter.data.view(-1)
            for part in flat.split(len(block)):
                part.copy_(block[: len(part)])
            if parameter.ndim == 1:
                flat.add_(0.5)
        network.save_pretrained(folder / name, variant="fp16")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_trains_and_plays_within_20_gb(tmp_path: Path) -> None:
    code = "import json, sys; from pathlib import Path; from tests.train import test_full_size as full\n"
    code += "print(json.dumps(full.train_and_play(Path(sys.argv[1]))))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert 943e6 < figures["parameters"] < 945e6
    assert figures["begins_at_zero"] and figures["learnt"] > 0
    assert len(figures["losses"]) == 2 and all(0 < loss < 10 for loss in figures["losses"])
    assert figures["frame"] == [1, FRAME, FRAME, 3] and figures["deviation"] > 0
    assert figures["gigabytes"] < MAX_GIGABYTES, figures
