"""What a job waits for, in words, and whether a cluster's machines could ever give it."""

from __future__ import annotations

import pytest

from gamengen import job_needs


@pytest.mark.parametrize(
    ("group", "could"),
    [
        ([{"CPU": 4.0}], True),
        ([{"CPU": 5.0}], False),  # no machine has as many
        ([{"CPU": 4.0}, {"CPU": 4.0}], True),
        ([{"CPU": 4.0}] * 3, False),  # each would fit, not all
        ([{"CPU": 1.0, "GPU": 1.0}], False),
        ([{"CPU": 1.0, "train_node": 0.001}], False),
    ],
)
def test_whether_machines_could_hold_what_is_asked_for(group: list[dict[str, float]], could: bool) -> None:
    assert job_needs._could_hold([{"CPU": 4.0}, {"CPU": 4.0, "rollout_node": 1.0}], group) is could


def test_what_is_missing_is_named_and_what_the_cluster_has() -> None:
    groups = [[{"GPU": 1.0, "CPU": 1.0}] * 2, [{"GPU": 1.0, "CPU": 1.0}]]
    assert job_needs._sum_up(groups) == "3 x (CPU 1, GPU 1)"
    machines = [{"CPU": 8.0, "memory": 1e9, "node:1": 1.0}, {"CPU": 16.0, "rollout_node": 1.0}]
    assert job_needs._describe(machines) == (
        "the cluster has 2 machines with CPU 24, GPU 0, rollout_node 1 in all, the largest CPU 16, rollout_node 1"
    )
    assert job_needs._describe([]) == "the cluster has no machine that works"
