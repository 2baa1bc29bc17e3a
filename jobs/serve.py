"""Serve a run's model as a game: `python -m jobs.serve --config configs/quickstart.yaml serve.port=8001`."""

from gamengen.serve.launch import serve_game
from jobs.command import run

if __name__ == "__main__":
    run("serve", serve_game)
