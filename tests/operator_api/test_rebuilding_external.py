"""A rebuild on a Ray cluster of others is submitted to it, followed, stopped and forgotten, and what keeps it is told."""

from collections.abc import AsyncIterator

import pytest
from tests.external.simulated_serve import Fault, SimulatedServe, simulated_serve
from tests.operator_api.conftest import NewNamespace
from tests.operator_api.documents import index
from tests.operator_api.fake_probes import BEGINNING, rebuild
from tests.operator_api.faults import FaultyClient
from tests.operator_api.in_hand import OperatorInHand
from tests.operator_api.namespace import Object
from tests.operator_api.scenarios import delete, prepare

FIRST, SECOND = "shop-reindex-7e2f0000-1", "shop-reindex-7e2f0000-2"


@pytest.fixture
async def cluster() -> AsyncIterator[SimulatedServe]:
    async with simulated_serve() as found:
        yield found


@pytest.fixture
async def operator(new_namespace: NewNamespace, cluster: SimulatedServe) -> AsyncIterator[OperatorInHand]:
    """One that serves an index on the cluster, whose rebuilds are submitted to it."""
    namespace = await new_namespace()
    found = OperatorInHand(namespace, FaultyClient(namespace.api))
    ray = {"mode": "External", "external": {"address": cluster.url, "serveUrl": "http://serve.test:8000"}}
    await prepare(namespace, [index(ray=ray, reindex={"placement": "Job", "attempts": 2})])
    await found.settle()
    cluster.settle()
    await found.settle()
    yield found
    await found.close()


async def told(operator: OperatorInHand) -> Object:
    status = (await operator.namespace.get("VisualIndex", "shop"))["status"]
    return {**next(c for c in status["conditions"] if c["type"] == "Reindexing"), "of": status.get("reindex")}


async def test_a_rebuild_is_submitted_and_followed_to_its_end(
    operator: OperatorInHand, cluster: SimulatedServe
) -> None:
    operator.probes.reindex = rebuild()
    await operator.settle()
    assert list(cluster.jobs.jobs) == [FIRST]
    assert (await told(operator))["message"] == f"waits for {FIRST} (RUNNING)"
    operator.probes.reindex = rebuild(state="running", held=True, started_at=BEGINNING, phase="building")
    await operator.settle()
    running = await told(operator)
    assert (running["reason"], running["of"]["run"]) == ("ReindexRuns", FIRST)
    cluster.jobs.ends(FIRST, "SUCCEEDED")
    operator.probes.reindex = None
    operator.probes.reindexed = rebuild(state="done", ended_at=BEGINNING, result={"generation": "c" * 16})
    await operator.settle()
    assert (await told(operator))["reason"] == "ReindexDone"
    assert cluster.jobs.jobs == {}, "it ended long ago, and nobody reads its credentials there any more"
    assert not (await told(operator))["of"]["run"]


async def test_what_keeps_a_rebuild_from_being_submitted_is_told_where_it_waits(
    operator: OperatorInHand, cluster: SimulatedServe
) -> None:
    cluster.jobs.refuses = "no room for another job"
    operator.probes.reindex = rebuild()
    await operator.settle()
    waiting = await told(operator)
    assert (waiting["status"], waiting["reason"]) == ("True", "ReindexWaits")
    assert cluster.url in waiting["message"]
    assert "no room for another job" in waiting["message"]
    assert waiting["of"]["progress"] == waiting["message"]
    assert [reason for reason, _ in operator.events].count("ReindexRefused") == 1
    cluster.jobs.refuses = ""
    await operator.settle()
    assert (await told(operator))["message"] == f"waits for {FIRST} (RUNNING)"


async def test_a_job_that_fails_is_followed_by_another_with_its_reason_and_given_up(
    operator: OperatorInHand, cluster: SimulatedServe
) -> None:
    operator.probes.reindex = rebuild()
    await operator.settle()
    cluster.jobs.ends(
        FIRST, "FAILED", "Job entrypoint command failed with exit code 1:\nerror: no such bucket"
    )
    await operator.settle()
    assert SECOND in cluster.jobs.jobs
    cluster.jobs.ends(
        SECOND, "FAILED", "Job entrypoint command failed with exit code 1:\nerror: no such bucket"
    )
    await operator.settle()
    failed = await told(operator)
    assert failed["reason"] == "ReindexFailed"
    assert "exit code 1: error: no such bucket" in failed["message"]


async def test_a_cancelled_rebuild_is_stopped_also_where_the_first_asking_fails(
    operator: OperatorInHand, cluster: SimulatedServe
) -> None:
    operator.probes.reindex = rebuild()
    await operator.settle()
    operator.probes.reindex, operator.probes.reindexed = None, rebuild(state="cancelled", ended_at=BEGINNING)
    before = len(cluster.calls)
    for number in range(before + 1, before + 5):
        cluster.faults[number] = Fault.ERROR
    for _ in range(3):
        await operator.settle()
    assert (cluster.jobs.stopped, cluster.jobs.jobs) == ([FIRST], {})
    assert (await told(operator))["reason"] == "ReindexCancelled"


async def test_an_index_that_is_deleted_stops_its_rebuild(
    operator: OperatorInHand, cluster: SimulatedServe
) -> None:
    operator.probes.reindex = rebuild()
    await operator.settle()
    await delete("VisualIndex", "shop")(operator.namespace)
    for _ in range(3):
        await operator.settle()
        cluster.settle()
    assert cluster.jobs.stopped == [FIRST]
    assert await operator.namespace.all("VisualIndex") == []
