"""Puts dashboards and alerts into Grafana: `GRAFANA_TOKEN=... python -m jobs.dashboards --url http://127.0.0.1:3000`;
or writes the files from which Grafana and Prometheus are provisioned: `python -m jobs.dashboards --write cluster`."""

import argparse
import json
import sys
from pathlib import Path

from gamengen.dashboards import files, grafana


def main() -> None:
    """Push, or write; one line of JSON says what was changed."""
    parser = argparse.ArgumentParser(prog="python -m jobs.dashboards", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="where Grafana is")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="where Grafana finds Prometheus")
    parser.add_argument("--write", metavar="FOLDER", type=Path, help="write the provisioning files instead")
    options = parser.parse_args()
    try:
        if options.write:
            summary = {"written": [str(file) for file in files.write(options.write)]}
        else:
            summary = grafana.push(options.url, options.prometheus)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    print(json.dumps({"phase": "dashboards", **summary}), flush=True)


if __name__ == "__main__":
    main()
