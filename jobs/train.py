"""Train a stage: `python -m jobs.train --config configs/quickstart.yaml
stage=denoiser` (autoencoder, denoiser, distill or decoder)."""

from gamengen.train.trainer import train
from jobs import command

if __name__ == "__main__":
    command.run("train", train, stage=command.take("stage", "denoiser"))
