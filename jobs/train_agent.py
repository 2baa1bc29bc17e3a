"""Job: train the agent and record all that it plays. `python -m jobs.train_agent --config configs/quickstart.yaml`."""

from gamengen.collect.agent import train_agent
from jobs import command

if __name__ == "__main__":
    command.run("train_agent", train_agent)
