"""Play a model: `python -m jobs.play [game=<name>] [model=distilled | model=<folder>] [serve.port=8001]`.

`game` is a folder of gamengen/weights.
"""

import argparse
import json
import sys
from pathlib import Path

from gamengen import config as configs
from gamengen.play import find, play
from jobs import command

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"

if __name__ == "__main__":
    game, model = command.take("game", "chrome_dino"), command.take("model")
    parser = argparse.ArgumentParser(prog="gamengen play", description=__doc__)
    parser.add_argument("--config", default=QUICKSTART, help="whose `serve` settings hold; by default the quickstart's")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="game, model, or a setting of the config")
    options = parser.parse_args()
    command.log_for_people()
    try:
        summary = play(configs.load(options.config, options.overrides), find(game, model))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    print(f"\n  play    {summary['url']}\n  end it  make stop\n")
    print(json.dumps(summary), flush=True)
