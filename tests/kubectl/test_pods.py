"""Why a pod is not ready, from what its containers report."""

from typing import Any

from visualindex_operator.kubectl.pods import restarts, troubles

from .recorded import recorded


def pod(**container: Any) -> dict[str, Any]:
    status = {"name": "ray", "ready": False, "restartCount": 0, "state": {}, "lastState": {}, **container}
    return {"metadata": {"name": "p"}, "status": {"phase": "Running", "containerStatuses": [status]}}


def test_a_ready_pod_has_no_troubles() -> None:
    assert [list(troubles(one)) for one in recorded().pods] == [[], [], []]


def test_a_missing_image_is_told() -> None:
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}
    assert list(troubles(pod(state={"waiting": waiting}))) == [
        'ray waits: ImagePullBackOff: Back-off pulling image "x"'
    ]


def test_a_container_that_is_being_made_is_no_trouble() -> None:
    assert list(troubles(pod(state={"waiting": {"reason": "ContainerCreating"}}))) == []


def test_how_the_last_start_ended_is_told() -> None:
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-11-24T11:00:00Z"}}
    found = pod(state={"running": {}}, ready=True, restartCount=3, lastState=last)
    assert "ray ended before: OOMKilled, exit code 137 at 2026-11-24T11:00:00Z" in list(troubles(found))
    assert restarts(found) == 3


def test_a_failing_probe_is_told() -> None:
    assert list(troubles(pod(state={"running": {}}))) == ["runs, but its readiness probe fails (ray)"]
