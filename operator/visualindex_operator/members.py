"""From live VisualIndex objects to what the planner knows as members of a group."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from visualindex.planning.observations import Member
from visualindex.planning.shape import resolved
from visualindex.spec import SpecError, parse_spec
from visualindex.spec.models import API_VERSION, KIND, Spec
from visualindex.spec.status import Status
from visualindex_operator import names
from visualindex_operator.settings import Settings

Body = Mapping[str, Any]
GroupKey = tuple[str, str, str]
"""Namespace, mode (`KubeRay` or `External`), and the cluster's name or address."""


def group_of(body: Body) -> GroupKey:
    """The group a resource belongs to: those that share its cluster."""
    metadata = body["metadata"]
    ray = (body.get("spec") or {}).get("ray") or {}
    if ray.get("mode") == "External":
        address = str((ray.get("external") or {}).get("address", ""))
        return (metadata["namespace"], "External", address.rstrip("/"))
    return (metadata["namespace"], "KubeRay", ray.get("cluster") or metadata["name"])


def member(body: Body, settings: Settings) -> Member:
    """The member that a live object is, its spec completed by what the operator was installed with."""
    metadata = body["metadata"]
    annotations = metadata.get("annotations") or {}
    spec, problem = _spec(body)
    return Member(
        name=metadata["name"],
        generation=int(metadata.get("generation", 0)),
        created=_time(metadata.get("creationTimestamp")),
        spec=None if spec is None else resolved(spec, settings.image, settings.redis),
        problem=problem,
        paused=annotations.get(names.PAUSED, "").lower() in ("true", "yes", "1", "on"),
        approved=annotations.get(names.APPROVE, ""),
        reindex=annotations.get(names.REINDEX, ""),
        deleting="deletionTimestamp" in metadata,
        status=_status(body.get("status") or {}),
    )


def _status(written: Mapping[str, Any]) -> Status:
    """The status; of one that this release cannot read, because a newer one wrote it, what it says is being served."""
    try:
        return Status.model_validate(written)
    except ValidationError:
        applied = written.get("applied")
        return Status(applied=_plain(applied) if isinstance(applied, Mapping) else None)


def _spec(body: Body) -> tuple[Spec | None, str]:
    document = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": body["metadata"]["name"]},
        "spec": _plain(body.get("spec") or {}),
    }
    try:
        return parse_spec(document, body["metadata"]["name"]).spec, ""
    except SpecError as error:
        return None, "; ".join(f"{p.path}: {p.message}" for p in error.problems)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _time(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.now(UTC)
