"""What an index waits for: the first thing that is not there in the order in which they come about."""

from collections.abc import Callable, Iterator

from visualindex.planning.conditions import Reason
from visualindex.spec.status import Condition
from visualindex_operator.kubectl.pods import is_ready, troubles
from visualindex_operator.kubectl.ray_services import serving_side
from visualindex_operator.kubectl.surroundings import Surroundings

_STANDSTILL = {
    Reason.INVALID_SPEC: "a spec without mistakes",
    Reason.SUSPENDED: "spec.suspend: false",
}
_MIGRATION = frozenset({Reason.MIGRATING, Reason.MIGRATION_FAILED})


def waits_for(found: Surroundings) -> str | None:
    """The thing and what is known of it; None when the index is ready."""
    if _holds(found, "Ready") and _is_current(found):
        return None
    steps: tuple[Callable[[Surroundings], Iterator[str]], ...] = (
        _operator,
        _standstill,
        _dependencies,
        _migration,
        _cluster,
        _applications,
        _answers,
    )
    return next(reason for step in steps for reason in step(found))


def condition(found: Surroundings, kind: str) -> Condition | None:
    """A condition of the index, if it was reported."""
    return next((c for c in found.status.conditions if c.type == kind), None)


def _operator(found: Surroundings) -> Iterator[str]:
    generation = int(found.index["metadata"].get("generation", 0))
    if not found.status.conditions:
        yield "the operator: it has not looked at this resource yet. Is it running, and does it watch this namespace?"
    elif not _is_current(found):
        seen = found.status.observed_generation
        yield f"the operator: it has seen generation {seen} of the spec, and this is {generation}"


def _standstill(found: Surroundings) -> Iterator[str]:
    ready = condition(found, "Ready")
    for reason, what in _STANDSTILL.items():
        if ready and ready.reason == reason:
            yield _said(what, ready)
    paused = condition(found, "Paused")
    if paused and paused.status == "True":
        yield _said("the end of its pause", paused)


def _dependencies(found: Surroundings) -> Iterator[str]:
    for kind, what in (("StorageReady", "the object store"), ("MetadataReady", "Postgres")):
        state = condition(found, kind)
        if state and state.status != "True" and state.reason not in _MIGRATION:
            yield _said(what, state)


def _migration(found: Surroundings) -> Iterator[str]:
    state = condition(found, "MetadataReady")
    if state and state.status != "True":
        yield _said("the migration of the database", state)


def _cluster(found: Surroundings) -> Iterator[str]:
    serving = condition(found, "ServingReady")
    if (
        serving is None
        or serving.status == "True"
        or found.index["spec"].get("ray", {}).get("mode") == "External"
    ):
        return
    side = serving_side(found.ray_service) if found.ray_service else None
    if side is None:
        yield _said(f"the Ray cluster of RayService {found.cluster}", serving)
        return
    pods = [p for p in found.pods if p["metadata"]["labels"].get("ray.io/cluster") == side.cluster]
    for pod in pods:
        if not is_ready(pod):
            why = next(troubles(pod), "it starts")
            yield f"the Ray cluster: pod {pod['metadata']['name']}: {why}"
    if not pods:
        yield _said(f"the pods of Ray cluster {side.cluster}", serving)


def _applications(found: Surroundings) -> Iterator[str]:
    serving = condition(found, "ServingReady")
    if serving is None or serving.status == "True":
        return
    side = serving_side(found.ray_service) if found.ray_service else None
    for application in side.applications if side else []:
        if not application.runs:
            message = f": {application.message}" if application.message else ""
            yield f"the application {application.name}, which is {application.status}{message}"
    yield _said("its applications", serving)


def _answers(found: Surroundings) -> Iterator[str]:
    ready = condition(found, "Ready")
    yield _said("answers to searches", ready) if ready else "answers to searches"


def _holds(found: Surroundings, kind: str) -> bool:
    state = condition(found, kind)
    return state is not None and state.status == "True"


def _is_current(found: Surroundings) -> bool:
    return found.status.observed_generation >= int(found.index["metadata"].get("generation", 0))


def _said(what: str, state: Condition) -> str:
    return f"{what} ({state.reason})" + (f": {state.message}" if state.message else "")
