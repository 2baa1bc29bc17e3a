"""Submit a phase to a Ray cluster and follow it: `gamengen submit train --config configs/quickstart.yaml key=value`."""

import argparse
import json
import sys

from gamengen import submission, submit
from jobs import command

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="gamengen submit", description=submit.submit.__doc__, allow_abbrev=False)
    parser.add_argument("--address", help="http://head:8265; by default RAY_ADDRESS, or a head of our own")
    parser.add_argument("--wait", type=float, default=submission.WAIT_SECONDS, metavar="SECONDS",
                        help="for what the phase needs, before it is stopped (default: %(default).0f)")  # fmt: skip
    parser.add_argument("phase", help=f"{', '.join(submit.PHASES)}, or pipeline for all that is left of a run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as python -m jobs.<phase> takes them")
    options = parser.parse_args()
    command.log_for_people()
    try:
        summary = submit.submit(options.phase, options.arguments, options.address, options.wait)
    except submission.LeftRunning as left:
        sys.exit(print(left, flush=True))
    except (ValueError, submission.PhaseFailed) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(getattr(error, "exit_code", 2))
    print(json.dumps(summary), flush=True)
