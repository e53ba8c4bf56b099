"""A rebuild with a place of its own is carried out by one RayJob at a time, on a real API server."""

from dataclasses import replace

import pytest
from tests.operator_api.conftest import NewNamespace
from tests.operator_api.documents import index
from tests.operator_api.fake_probes import BEGINNING, JOB, rebuild
from tests.operator_api.faults import FaultyClient
from tests.operator_api.in_hand import OperatorInHand
from tests.operator_api.namespace import Object
from tests.operator_api.scenarios import annotate, delete, prepare

FIRST, SECOND = "shop-reindex-7e2f0000-1", "shop-reindex-7e2f0000-2"


@pytest.fixture
async def operator(new_namespace: NewNamespace) -> OperatorInHand:
    """One that has made an index ready whose rebuilds have places of their own."""
    namespace = await new_namespace()
    found = OperatorInHand(namespace, FaultyClient(namespace.api))
    await prepare(namespace, [index(reindex={"placement": "Job", "attempts": 2})])
    await found.settle()
    return found


async def runs(operator: OperatorInHand) -> list[str]:
    return [one["metadata"]["name"] for one in await operator.namespace.all("RayJob")]


async def told(operator: OperatorInHand, type_: str = "Reindexing") -> Object:
    status = (await operator.namespace.get("VisualIndex", "shop"))["status"]
    return {**next(c for c in status["conditions"] if c["type"] == type_), "of": status.get("reindex")}


async def fails(operator: OperatorInHand, name: str, message: str) -> None:
    """KubeRay says that a RayJob failed, a while ago."""
    status = {
        "jobDeploymentStatus": "Failed",
        "reason": "AppFailed",
        "message": message,
        "endTime": "2026-03-01T00:00:00Z",
    }
    await operator.namespace.merge("RayJob", name, {"status": status}, "/status")


async def test_a_job_that_waits_gets_a_ray_job_and_is_followed_to_its_end(operator: OperatorInHand) -> None:
    operator.probes.reindex = rebuild()
    await operator.settle()
    assert await runs(operator) == [FIRST]
    waiting = await told(operator)
    assert (waiting["status"], waiting["reason"]) == ("True", "ReindexWaits")
    assert FIRST in waiting["message"]
    operator.probes.reindex = rebuild(
        state="running", held=True, started_at=BEGINNING, phase="encoding, round 1", done=512, total=10_000
    )
    await operator.settle()
    running = await told(operator)
    assert (running["status"], running["reason"]) == ("True", "ReindexRuns")
    assert running["message"] == "encoding, round 1: chunks 2/40, images 512/10,000"
    assert running["of"]["run"] == FIRST
    operator.probes.reindexed = rebuild(
        state="done",
        ended_at=BEGINNING,
        result={"generation": "c" * 16, "images": 3, "encoded": 0, "activating": True},
    )
    operator.probes.reindex = None
    await operator.settle()
    ended = await told(operator)
    assert (ended["status"], ended["reason"]) == ("False", "ReindexDone")
    assert ended["of"]["last"]["outcome"].startswith(f"generation {'c' * 16} of 3 images")
    reasons = [reason for reason, _ in operator.events if reason.startswith("Reindex")]
    assert reasons == ["ReindexStarted", "ReindexFinished"]


async def test_a_ray_job_that_fails_is_begun_again_and_given_up_with_its_reason(
    operator: OperatorInHand,
) -> None:
    operator.probes.reindex = rebuild(chunks=5)
    await operator.settle()
    await fails(operator, FIRST, "no such image")
    await operator.settle()
    assert await runs(operator) == [FIRST, SECOND]
    await fails(operator, SECOND, "no such image")
    await operator.settle()
    assert operator.probes.reindexed is not None
    assert "AppFailed: no such image" in operator.probes.reindexed.problem
    assert "2 times in a row (spec.reindex.attempts)" in operator.probes.reindexed.problem
    failed = await told(operator)
    assert (failed["status"], failed["reason"]) == ("False", "ReindexFailed")
    assert "no such image" in failed["message"]
    assert await runs(operator) == []
    reasons = [reason for reason, _ in operator.events if reason.startswith("Reindex")]
    assert "ReindexFailed" in reasons


async def test_a_cancelled_job_ends_its_ray_job(operator: OperatorInHand) -> None:
    operator.probes.reindex = rebuild()
    await operator.settle()
    operator.probes.reindex, operator.probes.reindexed = None, rebuild(state="cancelled", ended_at=BEGINNING)
    await operator.settle()
    assert await runs(operator) == []
    assert (await told(operator))["reason"] == "ReindexCancelled"


async def test_a_job_of_the_gateways_gets_no_ray_job_and_is_told_all_the_same(
    operator: OperatorInHand,
) -> None:
    operator.probes.reindex = rebuild(
        apart=False, state="running", held=True, phase="building", done=1, total=2
    )
    await operator.settle()
    assert await runs(operator) == []
    assert (await told(operator))["message"] == "building: 1/2"


async def test_an_annotation_asks_once_for_each_value(operator: OperatorInHand) -> None:
    operator.probes.refuses = "the service answers 503"
    await annotate(reindex="monday")(operator.namespace)
    await operator.settle()
    assert operator.probes.asked_for == []
    assert [reason for reason, _ in operator.events].count("ReindexRefused") == 1
    operator.probes.refuses = None
    await operator.settle()
    await operator.settle()
    assert operator.probes.asked_for == ["shop"]
    assert (await told(operator))["of"]["asked"] == "monday"
    await annotate(reindex="tuesday")(operator.namespace)
    await operator.settle()
    assert operator.probes.asked_for == ["shop", "shop"]
    assert len(await runs(operator)) == 1


async def test_an_index_that_is_deleted_ends_its_rebuild_first(operator: OperatorInHand) -> None:
    operator.probes.reindex = rebuild()
    await operator.settle()
    assert await runs(operator) == [FIRST]
    await delete("VisualIndex", "shop")(operator.namespace)
    await operator.settle()
    assert await runs(operator) == []
    assert await operator.namespace.all("VisualIndex") == []


async def test_a_ray_job_of_somebody_else_is_left_alone_and_named(operator: OperatorInHand) -> None:
    foreign = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": FIRST}, "spec": {}}
    await operator.namespace.create("RayJob", foreign)
    operator.probes.reindex = replace(rebuild(), job_id=JOB)
    with pytest.raises(AssertionError, match="still writing"):
        await operator.settle(3)
    assert f"RayJob {FIRST} is not the operator's" in (await told(operator, "Degraded"))["message"]
