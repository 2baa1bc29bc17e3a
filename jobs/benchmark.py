"""Job: measure a run's parts beside bare loops. `python -m jobs.benchmark --config configs/quickstart.yaml`."""

from gamengen.benchmark import benchmark
from jobs import command

if __name__ == "__main__":
    command.run("benchmark", benchmark)
