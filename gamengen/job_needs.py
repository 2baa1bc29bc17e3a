"""Asks a Ray cluster what a job still waits for, and whether its machines could ever give it; knows no phase."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import Any

_Resources = dict[str, float]
_MOST = 1000  # of a kind that are looked at; a phase waits for far fewer


@dataclass(frozen=True)
class Needs:
    """What a job waits for.

    Attributes:
        text: what, and what there is, for a person.
        stuck: nothing of the job can work on before it gets that.
    """

    text: str
    stuck: bool


def of(dashboard: str, headers: dict[str, str], job_id: str) -> Needs | None:
    """Return what a job waits for, None where it has all that it asked for.

    Args:
        dashboard: the cluster's http address.
        headers: what every request carries (a token).
        job_id: Ray's own of the driver, not the submission's.

    Raises:
        OSError: the cluster does not answer.
    """
    ask = _Asker(dashboard, headers)
    wanted = _pending(ask, job_id)
    if not wanted:
        return None
    machines = [node["resources_total"] for node in ask("nodes", state="ALIVE")]
    impossible = [group for group in wanted if not _could_hold(machines, group)]
    if impossible:
        return Needs(f"needs {_sum_up(impossible)}; {_describe(machines)}", stuck=True)
    at_work = [actor for actor in ask("actors", job_id=job_id, state="ALIVE") if _named(actor["required_resources"])]
    stuck = not at_work and not ask("tasks", job_id=job_id, state="RUNNING")
    return Needs(f"waits for {_sum_up(wanted)} to be free; {_describe(machines)}", stuck)


class _Asker:
    """Lists one kind of a cluster's things by Ray's state API."""

    def __init__(self, dashboard: str, headers: dict[str, str]) -> None:
        self._dashboard, self._headers = dashboard.rstrip("/"), headers

    def __call__(self, kind: str, **filters: str) -> list[dict[str, Any]]:
        query = [("detail", "true"), ("limit", str(_MOST))]
        for key, value in filters.items():
            query += [("filter_keys", key), ("filter_predicates", "="), ("filter_values", value)]
        url = f"{self._dashboard}/api/v0/{kind}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(urllib.request.Request(url, headers=self._headers), timeout=30) as answer:
            return json.load(answer)["data"]["result"]["result"]


def _pending(ask: _Asker, job_id: str) -> list[list[_Resources]]:
    """Return what a job has asked for and not got: groups of what must be had together."""
    wanted = []
    for group in ask("placement_groups", creator_job_id=job_id, state="PENDING"):
        wanted.append([_named(bundle["unit_resources"]) for bundle in group["bundles"] or []])
    for actor in ask("actors", job_id=job_id, state="PENDING_CREATION"):
        wanted.append([_named(actor["required_resources"])])
    for task in ask("tasks", job_id=job_id, state="PENDING_NODE_ASSIGNMENT"):
        if task["type"] == "NORMAL_TASK":
            wanted.append([_named(task["required_resources"])])
    return [group for group in wanted if any(group)]


def _named(resources: _Resources | None) -> _Resources:
    """Leave out what is not asked for, and what stands for a place in a placement group (`CPU_group_0_1ab...`)."""
    return {name: amount for name, amount in (resources or {}).items() if amount > 0 and "_group_" not in name}


def _could_hold(machines: list[_Resources], group: list[_Resources]) -> bool:
    """Whether the machines, were they idle, had room for every one of a group, and for all of them by their sums."""
    each = all(any(_holds(machine, one) for machine in machines) for one in group)
    return each and _holds(_total(machines), _total(group))


def _holds(machine: _Resources, wanted: _Resources) -> bool:
    return all(machine.get(name, 0) >= amount for name, amount in wanted.items())


def _total(many: list[_Resources]) -> _Resources:
    total: Counter[str] = Counter()
    for resources in many:
        total.update(resources)
    return dict(total)


def _sum_up(groups: list[list[_Resources]]) -> str:
    count = Counter(_text(one) for group in groups for one in group)
    return ", ".join(f"{number} x ({what})" if number > 1 else what for what, number in count.items())


def _describe(machines: list[_Resources]) -> str:
    if not machines:
        return "the cluster has no machine that works"
    names = ("CPU", "GPU", *sorted(name for name in _total(machines) if name.endswith("_node")))
    total = _total(machines)
    has = ", ".join(f"{name} {total.get(name, 0):g}" for name in names)
    largest = max(machines, key=lambda machine: (machine.get("GPU", 0), machine.get("CPU", 0)))
    if len(machines) == 1:
        return f"the cluster has one machine with {has}"
    return f"the cluster has {len(machines)} machines with {has} in all, the largest {_text(largest)}"


def _text(resources: _Resources) -> str:
    shown = {name: amount for name, amount in resources.items() if ":" not in name and "memory" not in name}
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted((shown or resources).items()))
