"""Check what each tier needs, at work: `python -m jobs.check [--config configs/quickstart.yaml key=value ...]`."""

import argparse
import json
import logging
import sys
import time

from gamengen.check.tiers import check, summary

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="gamengen check", description="Check each tier's game, agent, shards and networks, all of them at work."
    )
    parser.add_argument("--config", action="append", default=[], help="a YAML of configs/; by default every tier's")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("gamengen.check").setLevel(logging.INFO)
    logging.getLogger("ray").setLevel(logging.ERROR)  # its advice to programmers is of no use here
    begun, tiers = time.perf_counter(), []
    for tier in check(options.config, options.overrides):
        print(tier.lines(), flush=True)
        tiers.append(tier)
    result = summary(tiers, time.perf_counter() - begun)
    print(json.dumps(result), flush=True)
    sys.exit(0 if result["ready"] else 1)
