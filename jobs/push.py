"""Share a model or recorded play: `python -m jobs.push <model folder, or run's folder> <owner>/<name> [--private]`."""

import argparse
import json
import logging
import sys

from gamengen import storage
from gamengen.checkpoint import push_to_hub
from gamengen.data.card import push_play

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="gamengen push", description=__doc__)
    parser.add_argument("folder", help="a model's, such as <storage>/<run>/denoiser; or a run's, whose play is shared")
    parser.add_argument("name", help="<owner>/<name> on the Hugging Face hub")
    parser.add_argument("--private", action="store_true", help="a new repository is to be seen by its owner alone")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        is_model = storage.exists(f"{options.folder.rstrip('/')}/game.json")
        url = (push_to_hub if is_model else push_play)(options.folder, options.name, private=options.private)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    print(json.dumps({"pushed": options.folder, "kind": "model" if is_model else "dataset", "url": url}), flush=True)
