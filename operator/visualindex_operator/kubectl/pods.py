"""What a pod says of itself, and why it is not ready."""

from collections.abc import Iterator
from typing import Any

from visualindex_operator.kubectl.cluster import Object

_ON_ITS_WAY = frozenset({"ContainerCreating", "PodInitializing"})


def role(pod: Object) -> str:
    """`head`, or the worker group."""
    labels = pod["metadata"].get("labels", {})
    if labels.get("ray.io/node-type") == "head":
        return "head"
    return str(labels.get("ray.io/group") or "worker")


def phase(pod: Object) -> str:
    """The phase, or that the pod is being deleted."""
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str(pod.get("status", {}).get("phase", "Unknown"))


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition holds."""
    return _condition(pod, "Ready").get("status") == "True"


def restarts(pod: Object) -> int:
    """Restarts of all containers."""
    return sum(int(status.get("restartCount", 0)) for status in _containers(pod))


def troubles(pod: Object) -> Iterator[str]:
    """Why the pod is not ready, or was not for a while, one line each."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield f"not scheduled: {scheduled.get('message') or scheduled.get('reason', '')}"
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        yield f"{status['reason']}: {status.get('message', '')}"
    for container in _containers(pod):
        yield from _container_troubles(container)
    if (
        phase(pod) == "Running"
        and not is_ready(pod)
        and all("running" in c["state"] for c in _containers(pod))
    ):
        names = ", ".join(c["name"] for c in _containers(pod) if not c.get("ready"))
        yield f"runs, but its readiness probe fails ({names})" if names else "runs, but is not ready"


def _container_troubles(container: Object) -> Iterator[str]:
    name, state = container["name"], container.get("state", {})
    waiting, ended = state.get("waiting"), state.get("terminated")
    if waiting and (waiting.get("reason") not in _ON_ITS_WAY or waiting.get("message")):
        yield f"{name} waits: {_reason(waiting)}"
    if ended and ended.get("exitCode"):
        yield f"{name} ended: {_end(ended)}"
    last = container.get("lastState", {}).get("terminated")
    if last:
        yield f"{name} ended before: {_end(last)}"


def _end(terminated: Object) -> str:
    signal = f", signal {terminated['signal']}" if terminated.get("signal") else ""
    when = f" at {terminated['finishedAt']}" if terminated.get("finishedAt") else ""
    return f"{_reason(terminated)}, exit code {terminated.get('exitCode')}{signal}{when}"


def _reason(state: Object) -> str:
    message = " ".join(str(state.get("message") or "").split())
    reason = str(state.get("reason") or "without a reason")
    return f"{reason}: {message}" if message else reason


def _condition(pod: Object, kind: str) -> dict[str, Any]:
    conditions = pod.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
