"""Job: play and record, without learning. `python -m jobs.collect --config configs/quickstart.yaml`."""

from gamengen.collect.rollouts import collect
from jobs import command

if __name__ == "__main__":
    command.run("collect", collect)
