"""Evaluate a run's models on held-out play: `python -m jobs.evaluate --config configs/quickstart.yaml`."""

from gamengen.evaluate.evaluation import evaluate
from jobs import command

if __name__ == "__main__":
    command.run("evaluate", evaluate)
