"""Two hundred indexes under one operator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.external.simulated_serve import SimulatedServe, simulated_serve
from tests.operator_api.conftest import NewOperator
from tests.operator_api.documents import index
from tests.operator_api.namespace import Namespace
from tests.operator_api.scenarios import prepare
from tests.operator_api.versions import ready
from tests.operator_api.waiting import until

_INDEXES, _EXTERNAL = 200, 20
_WITHIN_S, _MOST_MIB = 60, 300


async def test_two_hundred_indexes_are_ready_within_a_minute(
    namespace: Namespace, new_operator: NewOperator
) -> None:
    """One more names a Secret that is not there; it does not hold up the others."""
    own = [index(f"own-{number:03}") for number in range(_INDEXES - _EXTERNAL)]
    broken = index("broken", postgres={"dsnSecretRef": {"name": "missing", "key": "dsn"}})
    async with simulated_serve() as cluster, settling(cluster):
        theirs = [_external(number, cluster) for number in range(_EXTERNAL)]
        await prepare(namespace, [broken, *own, *theirs])
        operator = new_operator()
        await operator.start()
        others = [document["metadata"]["name"] for document in (*own, *theirs)]
        took = await until(
            lambda: ready(namespace, *others), 200, "all but the broken one are ready", every=1
        )
        busy, began = operator.cpu_seconds(), operator.rss_mib()
        await asyncio.sleep(10)  # what it takes while nothing happens
        idle = (operator.cpu_seconds() - busy) / 10
    print(
        f"{len(others)} ready after {took:.1f} s with {busy:.1f} s of CPU, {began:.0f} MiB; idle {idle:.0%} of a core"
    )
    assert not await ready(namespace, "broken")
    assert operator.rss_mib() < _MOST_MIB
    assert took < _WITHIN_S


def _external(number: int, cluster: SimulatedServe) -> dict[str, object]:
    address = {"address": cluster.url, "serveUrl": "http://serve.test:8000"}
    return index(f"theirs-{number:03}", ray={"mode": "External", "external": address})


@asynccontextmanager
async def settling(cluster: SimulatedServe) -> AsyncIterator[None]:
    """Applications arrive within a moment."""

    async def work() -> None:
        while True:
            cluster.settle()
            await asyncio.sleep(0.2)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
