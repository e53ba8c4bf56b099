"""The counts of a RayService reach the Ray cluster that runs, and nothing else does."""

import copy
from typing import Any

from visualindex_operator.worker_counts import changes


def group(replicas: int, **more: Any) -> dict[str, Any]:
    counts = {"replicas": replicas, "minReplicas": replicas, "maxReplicas": replicas}
    return {"groupName": "worker", "template": {"spec": {"containers": []}}, **counts, **more}


def service(*groups: dict[str, Any], **config: Any) -> dict[str, Any]:
    return {"spec": {"rayClusterConfig": {"workerGroupSpecs": list(groups), **config}}}


def cluster(*groups: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"workerGroupSpecs": list(groups)}}


def patched(target: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """What the API server makes of it."""
    changed = copy.deepcopy(target)
    for operation in patch:
        *folders, last = operation["path"].lstrip("/").split("/")
        place: Any = changed
        for folder in folders:
            place = place[int(folder) if folder.isdigit() else folder]
        if operation["op"] == "test":
            assert place[last] == operation["value"]
        else:
            place[last] = operation["value"]
    return changed


def test_equal_counts_need_no_patch() -> None:
    assert changes(cluster(group(2)), service(group(2))) == []


def test_counts_of_every_group_follow_the_service() -> None:
    before = cluster(group(1), group(3, groupName="gpu"))
    wanted = [group(2), group(1, groupName="gpu")]
    assert patched(before, changes(before, service(*wanted))) == cluster(*wanted)


def test_a_cluster_that_will_be_replaced_is_left_alone() -> None:
    other = group(2, template={"spec": {"containers": [{"name": "ray"}]}})
    assert changes(cluster(group(1)), service(other)) == []
    assert changes(cluster(group(1)), service(group(1), group(1, groupName="gpu"))) == []


def test_the_autoscaler_keeps_its_own_count_between_the_bounds() -> None:
    before = cluster(group(4, minReplicas=1, maxReplicas=6))
    wanted = service(group(1, minReplicas=1, maxReplicas=9), enableInTreeAutoscaling=True)
    [after] = patched(before, changes(before, wanted))["spec"]["workerGroupSpecs"]
    assert (after["replicas"], after["minReplicas"], after["maxReplicas"]) == (4, 1, 9)


def test_what_the_autoscaler_asks_to_delete_is_no_difference() -> None:
    before = cluster(group(2, scaleStrategy={"workersToDelete": ["one"]}))
    assert changes(before, service(group(3))) != []
