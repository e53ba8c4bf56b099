"""What an index waits for is the first thing missing from: operator, dependencies, migration, cluster, applications."""

from copy import deepcopy
from typing import Any

import pytest

from visualindex_operator.kubectl.surroundings import Surroundings
from visualindex_operator.kubectl.waiting import waits_for

from .recorded import recorded, with_conditions

NOT_READY = ("Ready", "False", "NotAnswering", "no answer")
NO_STORE = ("StorageReady", "False", "Unreachable", "minio:9000 refuses connections")
NO_DATABASE = ("MetadataReady", "False", "Unreachable", "db:5432 refuses connections")
MIGRATING = ("MetadataReady", "False", "Migrating", "job fashion-migrate-1 runs")
STARTING = ("ServingReady", "False", "Starting", "the cluster starts")


def unschedulable() -> list[dict[str, Any]]:
    pods = deepcopy(recorded().pods)
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    pods[1]["status"] = {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        ],
    }
    return pods


def deploying() -> dict[str, Any]:
    service = deepcopy(recorded().ray_service)
    assert service is not None
    application = service["status"]["activeServiceStatus"]["applicationStatuses"]["index-fashion"]
    application["status"] = "DEPLOYING"
    application["serveDeploymentStatuses"]["shard-0"] = {"status": "UPDATING", "message": "1 replica loads"}
    return service


@pytest.mark.parametrize(
    ("found", "start"),
    [
        (recorded(index=with_conditions()), "the operator: it has not looked"),
        (recorded(index=with_conditions(NOT_READY, generation=2)), "the operator: it has seen generation 1"),
        (recorded(index=with_conditions(("Ready", "False", "InvalidSpec", "x"))), "a spec without mistakes"),
        (
            recorded(index=with_conditions(NOT_READY, NO_STORE, MIGRATING)),
            "the object store (Unreachable): minio",
        ),
        (recorded(index=with_conditions(NOT_READY, NO_DATABASE)), "Postgres (Unreachable): db:5432"),
        (
            recorded(index=with_conditions(NOT_READY, MIGRATING, STARTING)),
            "the migration of the database (Migrating)",
        ),
        (
            recorded(index=with_conditions(NOT_READY, STARTING), ray_service=None),
            "the Ray cluster of RayService",
        ),
        (
            recorded(index=with_conditions(NOT_READY, STARTING), pods=unschedulable()),
            "the Ray cluster: pod fashion-8672s-workers-worker-pp5pl: not scheduled: 0/1 nodes are available",
        ),
        (
            recorded(index=with_conditions(NOT_READY, STARTING), ray_service=deploying()),
            "the application index-fashion, which is DEPLOYING: shard-0 UPDATING: 1 replica loads",
        ),
        (recorded(index=with_conditions(NOT_READY)), "answers to searches (NotAnswering): no answer"),
    ],
)
def test_the_first_missing_thing_is_named(found: Surroundings, start: str) -> None:
    assert (waits_for(found) or "").startswith(start)


def test_a_ready_index_waits_for_nothing() -> None:
    assert waits_for(recorded(index=with_conditions(("Ready", "True", "SearchAnswers", "")))) is None
