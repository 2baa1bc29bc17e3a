"""Look at recorded play: `python -m jobs.data <run's folder> [--contact-sheet sheet.png] [--mp4 film.mp4]`."""

import argparse
import json
import logging
import sys

from gamengen.data.inspect import inspect

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="gamengen data", description="Show what is in a dataset, check every row, and write its card (README.md)."
    )
    parser.add_argument("path", help="a run's folder, or one of shards; a path or a URI such as s3://bucket/run")
    parser.add_argument("--contact-sheet", metavar="PNG", help="write frames drawn evenly, labelled")
    parser.add_argument("--mp4", help="write an episode as a film with its actions")
    parser.add_argument("--episode", metavar="ID", help="which episode; by default the longest")
    parser.add_argument("--quick", action="store_true", help="figures alone: do not read the frames")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line, all figures as JSON")
    options = parser.parse_args()
    if options.episode and not options.mp4:
        parser.error("--episode needs --mp4 FILE, where its film is written")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    wanted = {name: getattr(options, name) for name in ("contact_sheet", "mp4", "episode", "quick")}
    try:
        found = inspect(options.path, **wanted)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    for damage in found.damages:
        print(f"damaged: {damage}", file=sys.stderr, flush=True)
    if found.text and not options.json:
        print(f"{found.text}\n")
    print(json.dumps(found.summary), flush=True)
    sys.exit(1 if found.damages else 0)
