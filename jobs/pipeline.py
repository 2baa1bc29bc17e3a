"""Run all that is left of a run: `python -m jobs.pipeline --config configs/quickstart.yaml key=value ...`."""

import argparse
import json
import sys

from gamengen import config as configs
from gamengen import pipeline, storage
from gamengen.submission import WAIT_SECONDS, Cluster, PhaseFailed
from jobs import command

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m jobs.pipeline", description=__doc__)
    parser.add_argument("--config", required=True, help="a YAML of configs/")
    parser.add_argument("--address", help="where jobs are submitted; by default RAY_ADDRESS, or a head of our own")
    parser.add_argument("--wait", type=float, default=WAIT_SECONDS, help="seconds for what a phase needs")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    options = parser.parse_args()
    command.log_for_people()
    try:
        folder = configs.load(options.config, options.overrides).folder
        cluster = Cluster(options.address, options.wait)
        summary = pipeline.run(options.config, options.overrides, cluster)
    except (ValueError, PhaseFailed) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(getattr(error, "exit_code", 2))
    print(f"\n{pipeline.table(storage.read_json(f'{folder}/summary-evaluate.json'))}\n")
    print(f"  report  {summary['report']}\n  play    {summary['url']}")
    print(f"  end it  {'make stop' if cluster.is_own else 'serve shutdown'}\n")
    print(json.dumps(summary), flush=True)
