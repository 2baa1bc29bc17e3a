"""The metrics: one name each, all of them recorded by some phase, and never in a phase's way."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import ray

from gamengen import monitor

PACKAGE = Path(monitor.__file__).parent


def test_every_metric_is_recorded_by_a_phase() -> None:
    names = {name for name, value in vars(monitor).items() if isinstance(value, monitor.Metric)}
    assert len(names) == len(monitor.ALL), "two have one name"
    sources = [file.read_text() for file in PACKAGE.rglob("*.py") if file.name != "monitor.py"]
    used = {name for source in sources for name in re.findall(r"monitor\.([A-Z_]+)", source)}
    assert names <= used


def test_only_the_monitor_makes_metrics() -> None:
    makers = [file for file in PACKAGE.rglob("*.py") if re.search(r"ray\.util.*metrics", file.read_text())]
    assert makers == [PACKAGE / "monitor.py"]


def test_without_ray_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    metric = monitor.Counter("tried", "a test", ("run",))
    try:
        metric.add(3, run="a")
        assert metric._made is None
    finally:
        del monitor.ALL[metric.name]


@pytest.mark.ray
def test_recording_is_quick_and_never_raises(ray_cluster, caplog: pytest.LogCaptureFixture) -> None:
    metric = monitor.Histogram("tried", "a test", ("run",), boundaries=[1.0])
    try:
        metric.observe(0.5)
        metric.observe(0.5)
        assert caplog.text.count("gamengen_tried is not recorded") == 1  # a label is missing
        metric.observe(0.5, run="a")
        begun = time.process_time()
        for _ in range(1000):
            metric.observe(0.5, run="a")
        assert time.process_time() - begun < 0.25  # 3 microseconds each on an idle core
    finally:
        del monitor.ALL[metric.name]
