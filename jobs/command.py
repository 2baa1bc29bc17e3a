"""What every job has in common: its command line, its one-line summary, and its exit status."""

import argparse
import errno
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from gamengen import config as configs
from gamengen.data import shards


def take(name: str, default: str = "") -> str:
    """Return what `name=value` on the command line says, the last one, and take it from there: it is no setting."""
    given = [argument for argument in sys.argv if argument.startswith(f"{name}=")]
    sys.argv = [argument for argument in sys.argv if argument not in given]
    return [default, *(argument.partition("=")[2] for argument in given)][-1]


def log_for_people() -> None:
    """Show what gamengen says, as it is, and of others their warnings; nothing of how Ray packs the source."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("gamengen").setLevel(logging.INFO)
    for noisy in ("ray", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def run(phase: str, work: Callable[..., dict[str, Any]], **arguments: Any) -> None:
    """Run `work(config, **arguments)` for the config on the command line.

    Prints the summary as the last line of the output and writes it to `<run>/summary-<phase>.json`. Exits with 2 and
    one line for a user's mistake (ValueError) and for a full disk.
    """
    parser = argparse.ArgumentParser(prog=f"python -m jobs.{phase}", description=work.__doc__)
    parser.add_argument("--config", required=True, help="a YAML of configs/")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="override a setting, such as train.num_workers=2"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    try:
        config = configs.load(options.config, options.overrides)
        summary = work(config, **arguments)
        name = f"{phase}-{arguments['stage']}" if "stage" in arguments else phase
        shards.write_json(f"{config.folder}/summary-{name}.json", summary)
    except ValueError as error:
        logging.getLogger(f"jobs.{phase}").debug("details", exc_info=True)
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except OSError as error:  # Ray's errors of a task are also of the type that was raised in it, without its errno
        if error.errno != errno.ENOSPC and os.strerror(errno.ENOSPC) not in str(error):
            raise
        print(
            f"error: no space is left in {config.folder}, or in the temporary folder of a machine. Nothing that was "
            "reported is lost: make room, and run the same job again.",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(2)
    print(json.dumps(summary), flush=True)
