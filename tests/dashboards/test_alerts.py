"""Every alert fires when it must, and not when all is well: Prometheus' own test of rules, on made series."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gamengen import monitor
from gamengen.dashboards.alerts import ALERTS

LATE, MADE = monitor.SERVE_LATE_FRAMES.series, monitor.SERVE_FRAMES.series
LEFT, FRAMES = monitor.COLLECT_FRAMES_LEFT.series, monitor.COLLECT_FRAMES.series
LOSS, DISK = monitor.TRAIN_NOT_FINITE.series, "ray_node_disk_utilization_percentage"

# uid -> what is seen once a minute (Prometheus' notation), and whether the alert fires after half an hour of it
CASES = [
    ("gamengen-late", {f'{MADE}{{game="g"}}': "0+60x30", f'{LATE}{{game="g"}}': "0+6x30"}, True),
    ("gamengen-late", {f'{MADE}{{game="g"}}': "0+60x30", f'{LATE}{{game="g"}}': "0+1x30"}, False),
    ("gamengen-late", {f'{MADE}{{game="g"}}': "0+60x30"}, False),
    ("gamengen-late", {f'{MADE}{{game="g"}}': "900x30", f'{LATE}{{game="g"}}': "90x30"}, False),
    ("gamengen-no-frames", {f'{LEFT}{{run="r"}}': "500x30"}, True),
    ("gamengen-no-frames", {f'{LEFT}{{run="r"}}': "500x30", f'{FRAMES}{{run="r"}}': "0+9x5 45x25"}, True),
    ("gamengen-no-frames", {f'{LEFT}{{run="r"}}': "500x30", f'{FRAMES}{{run="r"}}': "0+9x30"}, False),
    ("gamengen-no-frames", {f'{LEFT}{{run="r"}}': "0x30", f'{FRAMES}{{run="r"}}': "300x30"}, False),
    ("gamengen-loss", {f'{LOSS}{{run="r",stage="s"}}': "_x25 1x5"}, True),
    ("gamengen-loss", {f'{LOSS}{{run="r",stage="s"}}': "1x25 2x5"}, True),
    ("gamengen-loss", {f'{LOSS}{{run="r",stage="s"}}': "1x30"}, False),
    ("gamengen-disk", {f'{DISK}{{instance="a"}}': "91x30", f'{DISK}{{instance="b"}}': "20x30"}, True),
    ("gamengen-disk", {f'{DISK}{{instance="a"}}': "89x30"}, False),
]


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs Prometheus (Debian: apt-get install prometheus)")
def test_alerts_fire_when_they_must(tmp_path: Path) -> None:
    alerts = {alert.uid: alert for alert in ALERTS}
    assert set(alerts) == {uid for uid, _, _ in CASES}
    tests = []
    for uid, series, fires in CASES:
        alert = alerts[uid]
        query = f"count(({alert.query}) > {alert.above})"
        samples = [{"labels": "{}", "value": 1}] if fires else []
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [{"expr": query, "eval_time": "30m", "exp_samples": samples}],
            }
        )
    (tmp_path / "tests.yml").write_text(json.dumps({"tests": tests}))
    checked = subprocess.run(["promtool", "test", "rules", tmp_path / "tests.yml"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
