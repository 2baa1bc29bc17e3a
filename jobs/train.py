"""Train a stage: `python -m jobs.train --config configs/quickstart.yaml
stage=denoiser` (autoencoder, denoiser or distill)."""

import sys

from gamengen.train.trainer import train
from jobs import command

if __name__ == "__main__":
    stages = [argument for argument in sys.argv if argument.startswith("stage=")]
    sys.argv = [argument for argument in sys.argv if argument not in stages]
    command.run("train", train, stage=(stages or ["stage=denoiser"])[-1].removeprefix("stage="))
