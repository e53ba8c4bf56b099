"""Shards built by tasks of a Ray cluster: as many at once as its machines have room for; Ray repeats those that are lost."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import ray

from visualindex.ann.graph import Abandoned
from visualindex.building import ShardBuilt, Task
from visualindex.building.affording import afford
from visualindex.capacity.coefficients import Coefficients
from visualindex.errors import ProblemError, ProblemType
from visualindex.generations.threads import all_of
from visualindex.spec import Spec
from visualindex_jobs.build_workers import build_shard, look
from visualindex_jobs.reindex_ray import problem_in

_BESIDE_CPUS = 0.1
"""Logical CPUs of a task beside a service, whose replicas hold nearly all: the kernel gives it what they leave."""
_LOOK_S = 1.0


class OnRay:
    """Builders on the workers of the cluster that this process belongs to."""

    def __init__(self, features: str | None, wanted: Callable[[], bool], *, beside: bool) -> None:
        """`features` is the fingerprint of the patches that the index keeps, if it keeps any."""
        self._features = features
        self._wanted = wanted
        self._beside = beside

    async def afford(
        self, spec: Spec, dimension: int, images: int, measured: Coefficients
    ) -> tuple[int, int]:
        """See `Builders`. A look at one machine stands for all, which are taken to be alike."""
        reservable = await asyncio.to_thread(_cpus_alive)
        task: Any = ray.remote(num_cpus=_BESIDE_CPUS, max_retries=3, max_calls=1)(look)
        room, cpus = await self._result(task.remote())
        cpus = max(1, cpus // 2 if self._beside else min(cpus, int(max(reservable, default=1))))
        machines = max(1, len(reservable))
        at_once = afford(spec, dimension, images, room, measured, cpus=cpus, machines=machines)
        return at_once, max(1, cpus // -(-at_once // machines))

    async def build(self, task: Task, at_once: int, done: Callable[[ShardBuilt], None]) -> None:
        """See `Builders`."""
        shards = iter(range(task.shards))
        shared = ray.put(task)
        await all_of(self._some(task, shared, shards, done) for _ in range(at_once))

    async def _some(
        self, task: Task, shared: Any, shards: Iterator[int], done: Callable[[ShardBuilt], None]
    ) -> None:
        remote = self._remote(task)
        for shard in shards:
            named = remote.options(name=f"build shard {shard} of {task.manifest.index}")
            done(await self._result(named.remote(shared, shard, self._features, beside=self._beside)))

    def _remote(self, task: Task) -> Any:
        """A process for each shard: what building took of memory is given back, and its priority with it."""
        spec = task.resource.spec.reindex
        reserved = _BESIDE_CPUS if self._beside else float(task.threads)
        build: Any = build_shard  # Ray's stubs know no functions with arguments
        return ray.remote(
            num_cpus=reserved if spec.cpus is None else spec.cpus,
            max_retries=spec.attempts,
            max_calls=1,
            scheduling_strategy="SPREAD",
        )(build)

    async def _result(self, reference: Any) -> Any:
        """What a task returns; it is ended when this is cancelled, or the build is no longer wanted."""
        running = asyncio.ensure_future(asyncio.wrap_future(reference.future()))
        try:
            while not running.done():
                if not self._wanted():
                    raise Abandoned
                await asyncio.wait([running], timeout=_LOOK_S)
            return running.result()
        except (Abandoned, asyncio.CancelledError):
            ray.cancel(reference, force=True)
            await asyncio.gather(running, return_exceptions=True)
            raise
        except Exception as error:
            raise _told(error) from error


def machines_alive() -> int:
    """Machines of the cluster that tasks may run on."""
    return len(_cpus_alive())


def _cpus_alive() -> list[float]:
    """What may be reserved of each."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    cpus = [node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"]]
    return [each for each in cpus if each > 0]


def _told(error: Exception) -> BaseException:
    """What a task raised, or in our words that it was lost too often."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return error.cause if isinstance(error.cause, Abandoned) else problem_in(error)
    return ProblemError(
        ProblemType.UNAVAILABLE,
        f"a worker that built a shard was lost again and again ({error}): look at its memory and its node, then ask again",
    )
