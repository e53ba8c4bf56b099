"""The real operator, with kopf, its watches and its own process, on a real API server."""

import copy
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.operator_api.documents import index
from tests.operator_api.end_state import difference, end_state
from tests.operator_api.namespace import GoneError, Namespace
from tests.operator_api.process import OperatorProcess
from tests.operator_api.scenarios import prepare
from tests.operator_api.versions import ready, versions
from tests.operator_api.waiting import quiet, until

from visualindex_operator import names

_REPAIRED_WITHIN_S = 10
_WRITES, _LOOKS = "visualindex_operator_writes_total", "visualindex_operator_reconciles_total"


@pytest.fixture
async def settled(namespace: Namespace, operator: OperatorProcess) -> Namespace:
    """A namespace in which the operator has made an index ready, and has nothing left to write."""
    await prepare(namespace, [index(deletionPolicy="Delete")])
    await operator.start()
    await until(lambda: ready(namespace, "shop"), 60, "shop is ready")
    await quiet(lambda: versions(namespace), 3)
    return namespace


async def _apply_on_the_server(namespace: Namespace) -> None:
    await namespace.apply("VisualIndex", index(deletionPolicy="Delete"))


async def _apply_as_kubectl(namespace: Namespace) -> None:
    """As `kubectl apply` does without --server-side."""
    manifest = index(deletionPolicy="Delete")
    last = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(manifest, sort_keys=True)}
    change = {"metadata": {"annotations": last}, "spec": manifest["spec"]}
    await namespace.merge("VisualIndex", "shop", change)


@pytest.mark.parametrize("apply", [_apply_on_the_server, _apply_as_kubectl])
async def test_the_same_manifest_again_causes_no_write(
    apply: Callable[[Namespace], Awaitable[None]], settled: Namespace, operator: OperatorProcess
) -> None:
    await apply(settled)
    await quiet(lambda: versions(settled), 3)
    before, writes = await versions(settled), await operator.counted(_WRITES)
    for _ in range(19):
        await apply(settled)
    looks = await operator.counted(_LOOKS)
    await until(lambda: _looked(operator, looks + 2), 30, "the operator looked twice since")
    assert await versions(settled) == before
    assert await operator.counted(_WRITES) == writes


async def test_the_status_tells_the_served_generation_its_recall_and_what_became_of_the_next(
    settled: Namespace,
) -> None:
    status = (await settled.get("VisualIndex", "shop"))["status"]
    assert status["generation"] == {
        "id": "a" * 16,
        "recall": "0.962",
        "createdAt": "2026-03-01T00:00:00.000000Z",
        "next": {"id": "b" * 16, "state": "failed", "recall": "", "problem": "shard 0: no room"},
    }
    (met,) = (one for one in status["conditions"] if one["type"] == "RecallMet")
    assert (met["status"], met["reason"], met["message"]) == ("True", "TargetMet", "0.962 of 0.95 wanted")


async def _looked(operator: OperatorProcess, times: float) -> bool:
    return await operator.counted(_LOOKS) >= times


_LABEL = {"metadata": {"labels": {names.CLUSTER_LABEL: None}}}
_ANNOTATION = {"metadata": {"annotations": {names.DIGEST: None}}}
_OWNERS = {"metadata": {"ownerReferences": None}}
_EDITS: list[tuple[str, str, dict[str, Any]]] = [
    ("RayService", "shop", {"spec": {"serveConfigV2": "applications: []"}}),
    ("RayService", "shop", {"spec": {"rayClusterConfig": {"rayVersion": "1.0"}}}),
    ("RayService", "shop", {"spec": {"rayClusterConfig": {"suspend": True}}}),
    ("NetworkPolicy", "shop-ray", {"spec": {"ingress": [{}]}}),
    ("NetworkPolicy", "shop-ray", {"spec": {"podSelector": {"matchLabels": {"nobody": "has-this"}}}}),
    ("PodDisruptionBudget", "shop-worker", {"spec": {"minAvailable": 7}}),
    *(
        (kind, name, edit)
        for kind, name in (
            ("RayService", "shop"),
            ("NetworkPolicy", "shop-ray"),
            ("PodDisruptionBudget", "shop-worker"),
            ("Secret", "shop-credentials"),
        )
        for edit in (_LABEL, _ANNOTATION, _OWNERS)
    ),
]


async def test_children_that_were_edited_are_as_they_were_within_ten_seconds(settled: Namespace) -> None:
    wanted = await end_state(settled)
    took: dict[str, float] = {}
    for kind, name, edit in _EDITS:
        await settled.merge(kind, name, edit)
        what = f"{kind} {name} {edit}"
        took[what] = await _until_as(settled, wanted, _REPAIRED_WITHIN_S, what)
    print(f"{len(took)} edits repaired within {max(took.values()):.1f} s")


async def test_children_that_were_deleted_are_back_within_ten_seconds(settled: Namespace) -> None:
    wanted = await end_state(settled)
    children = [key.split("/") for key in wanted if not key.startswith(("VisualIndex", "Service"))]
    own = [(kind, name) for kind, name in children if name not in ("postgres", "bucket", "keys")]
    assert {kind for kind, _ in own} >= {
        "RayService",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Secret",
    }
    took: dict[str, float] = {}
    for kind, name in own:
        [uid] = [
            one["metadata"]["name"]
            for one in await settled.all(kind)
            if one["metadata"]["name"][:12] == name[:12]
        ]
        await settled.delete(kind, uid)
        took[name] = await _until_as(settled, wanted, _REPAIRED_WITHIN_S, f"{kind} {name} was deleted")
    print(f"deleted children were back within {max(took.values()):.1f} s: {took}")


async def test_what_others_add_to_a_child_stays_and_causes_no_write(
    settled: Namespace, operator: OperatorProcess
) -> None:
    await settled.merge("Secret", "shop-credentials", {"data": {"stray": "c3RyYXk="}})
    for kind, name in (("RayService", "shop"), ("NetworkPolicy", "shop-ray")):
        await settled.merge(kind, name, {"metadata": {"labels": {"team": "search"}}})
    before, looks = await versions(settled), await operator.counted(_LOOKS)
    await until(lambda: _looked(operator, looks + 3), 40, "the operator looked three times since")
    assert await versions(settled) == before


async def _until_as(namespace: Namespace, wanted: dict[str, Any], seconds: float, what: str) -> float:
    last: dict[str, Any] = {}

    async def same() -> bool:
        last.update(now=await end_state(namespace))
        return not difference(wanted, last["now"])

    try:
        return await until(same, seconds, what)
    except AssertionError as late:
        raise AssertionError(f"{late}: {difference(wanted, last['now'])}") from None


async def test_a_restarted_operator_writes_nothing(settled: Namespace, operator: OperatorProcess) -> None:
    before = await versions(settled)
    status = copy.deepcopy((await settled.get("VisualIndex", "shop"))["status"])
    operator.kill()
    await operator.start()
    await until(lambda: _looked(operator, 3), 60, "the operator looked three times")
    assert await versions(settled) == before
    assert (await settled.get("VisualIndex", "shop"))["status"] == status
    assert await operator.counted(_WRITES) == 0


async def test_deletion_waits_for_an_operator_that_is_down(
    settled: Namespace, operator: OperatorProcess
) -> None:
    operator.kill()
    await settled.delete("VisualIndex", "shop")
    deleted = await settled.get("VisualIndex", "shop")
    assert deleted["metadata"]["finalizers"] == [names.FINALIZER]
    await operator.start()
    await until(lambda: _gone(settled), 60, "shop is gone")
    await until(lambda: _left(settled, {"postgres", "bucket", "keys"}), 30, "its children are gone")


async def _gone(namespace: Namespace) -> bool:
    try:
        await namespace.get("VisualIndex", "shop")
    except GoneError:
        return True
    return False


async def _left(namespace: Namespace, expected: set[str]) -> bool:
    return {key.split("/")[1] for key in await versions(namespace)} == expected
