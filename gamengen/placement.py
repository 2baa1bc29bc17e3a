"""Where on a Ray cluster a kind of work belongs, and for how many workers there is room; knows no phase.

The files of `cluster/` mark each machine by what it is for, with a custom resource of one unit: `rollout_node` (games,
on CPUs that may vanish), `train_node` (encoding, training, evaluation) or `serve_node` (the game's engine). Work asks
for a thousandth of its machine's mark, which brings it there, and has an autoscaler start such a machine where there is
none. A cluster without marks, such as a laptop, runs everything everywhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from ray.data import ActorPoolStrategy

ROLLOUT, TRAIN, SERVE = "rollout_node", "train_node", "serve_node"
# Kinds that the cluster can have, with commas, in the environment of its head: what is not started shows nowhere else.
VARIABLE = "GAMENGEN_NODES"
_SHARE = 0.001
PIPELINE_CPUS = 3  # that Ray Data's own operators take: to read, to look up what is done, to write


def mark(kind: str) -> dict[str, float]:
    """Return the custom resources that bring work to machines of a kind; none where the cluster has no such kind."""
    known = kind in os.environ.get(VARIABLE, "").split(",")
    return {kind: _SHARE} if known or (ray.is_initialized() and kind in ray.cluster_resources()) else {}


def options(kind: str) -> dict[str, Any]:
    """Return `mark` as the options of a task or an actor."""
    marks = mark(kind)
    return {"resources": marks} if marks else {}


def room(kind: str, num_cpus: float = 0, num_gpus: float = 0) -> int:
    """Return how many workers that need so much the living machines of a kind could hold, were they idle."""
    wanted = {name: amount for name, amount in (("CPU", num_cpus), ("GPU", num_gpus)) if amount > 0} | mark(kind)
    workers = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            workers += int(min(has.get(name, 0) / amount for name, amount in wanted.items()) + 1e-6)
    return workers


def pool(
    workers: int | str, most: int, kind: str, num_cpus: float = 0, num_gpus: float = 0, **more: Any
) -> ActorPoolStrategy:
    """Return Ray Data's pool of `workers`: a number or, for "auto", what the cluster has room for at every moment.

    A pool for "auto" grows as soon as machines come, and asks an autoscaler for more while there is work for them.

    Args:
        most: workers that find something to do.
        num_cpus, num_gpus: of each.
        more: as ActorPoolStrategy takes it.
    """
    from ray.data import ActorPoolStrategy  # takes a second, which who only asks for a place need not wait

    if workers != "auto":
        return ActorPoolStrategy(size=min(int(workers), most), **more)
    fit = max(1, min(room(kind, num_cpus, num_gpus) - PIPELINE_CPUS, most))
    return ActorPoolStrategy(min_size=1, max_size=most, initial_size=fit, **more)
