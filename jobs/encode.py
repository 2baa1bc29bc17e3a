"""Encode gameplay into latents: `python -m jobs.encode --config configs/quickstart.yaml`."""

from gamengen.encode import encode
from jobs import command

if __name__ == "__main__":
    command.run("encode", encode)
