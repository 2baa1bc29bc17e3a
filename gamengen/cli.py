"""The `gamengen` command: `gamengen train --config ... key=value` is `python -m jobs.train --config ... key=value`.

`gamengen data <folder>` and `gamengen push <folder>` take a folder in place of a config, `gamengen check` and `gamengen
play` none; `gamengen submit <phase>` runs a phase on a cluster; all else is the jobs' own.
"""

from __future__ import annotations

import pkgutil
import runpy
import sys

import jobs


def phases() -> list[str]:
    """Return the names of the jobs."""
    return sorted(module.name for module in pkgutil.iter_modules(jobs.__path__) if module.name != "command")


def main() -> None:
    """Run a job in this process, with the rest of the command line as its arguments."""
    known = phases()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.stdout.write(
            "usage: gamengen <phase> --config <yaml> [key=value ...]\n"
            "       gamengen data <folder> [--contact-sheet <png>] [--mp4 <mp4> --episode <id>]\n"
            "       gamengen submit [--address <url>] <phase or pipeline> --config <yaml> [key=value ...]\n"
            "       gamengen push <folder> <owner>/<name>\n"
            "       gamengen play [game=<name>] [model=<folder>]\n"
            "       gamengen check [--config <yaml> ...]\n"
            "       gamengen estimate --config <yaml> [gpu=<name>] [mfu=<share>]\n\n"
            f"phases: {', '.join(known)}\n"
        )
        sys.exit(0 if len(sys.argv) > 1 else 2)
    phase = sys.argv.pop(1)
    if phase not in known:
        sys.exit(f"error: unknown phase, got {phase!r}; expected one of {', '.join(known)}.")
    runpy.run_module(f"jobs.{phase}", run_name="__main__", alter_sys=True)
