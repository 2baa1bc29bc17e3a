"""Tell what a run will take before it is begun: `python -m jobs.estimate --config <yaml> [gpu=H100] [mfu=0.5]`."""

import argparse
import json
import logging
import sys

from gamengen import config as configs
from gamengen.estimate.estimate import estimate, text
from jobs import command

if __name__ == "__main__":
    gpu, mfu = command.take("gpu", "H200"), command.take("mfu")
    parser = argparse.ArgumentParser(prog="gamengen estimate", description=__doc__)
    parser.add_argument("--config", required=True, help="a YAML of configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="gpu, mfu, or a setting of the config")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    try:
        found = estimate(configs.load(options.config, options.overrides), gpu, float(mfu) if mfu else None)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    print(f"{text(found)}\n")
    print(json.dumps(found), flush=True)
