"""Where a job has the shards of a generation built, and on how many threads."""

from collections.abc import Callable
from typing import Literal

from visualindex.building import Builders
from visualindex.capacity.machine import available_cpus

Place = Literal["here", "beside", "own"]
"""Where work is done: in the job's process, in processes beside a service's replicas, or on a cluster of its own."""


def threads_of(place: Place) -> int:
    """Of all builders in the job's process: searches beside them need half of the CPUs for their own peaks."""
    return max(1, available_cpus() // 2) if place == "beside" else available_cpus()


def builders_of(place: Place, features: str | None, wanted: Callable[[], bool]) -> Builders | None:
    """Tasks of Ray where it has other machines to run them on; None for threads of the job's process."""
    if place == "here":
        return None
    from visualindex_jobs.build_ray import OnRay, machines_alive  # a job in one process needs no Ray

    if place == "beside" and machines_alive() <= 1:
        return None
    return OnRay(features, wanted, beside=place == "beside")
