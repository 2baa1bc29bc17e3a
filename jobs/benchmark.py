"""Job: measure a run's parts beside bare loops. `python -m jobs.benchmark --config configs/quickstart.yaml
parts=recording` (or agent, training, engine, socket, several with commas; all of them if none is named). What takes
minutes is only measured where it is named: scaling, how collection grows with machines, and networks, at full size."""

from gamengen.benchmark import benchmark
from jobs import command

if __name__ == "__main__":
    command.run("benchmark", benchmark, parts=command.take("parts"))
