"""Events: what changed since the status before, told once."""

from collections.abc import Callable, Sequence
from typing import Any

from visualindex.planning.conditions import Reason
from visualindex.planning.observations import Member
from visualindex.spec.status import Condition, Status
from visualindex_operator.generation_events import generation_events
from visualindex_operator.homes import ROTATED
from visualindex_operator.reasons import EventReason
from visualindex_operator.reindex_events import reindex_events

Announce = Callable[[Any, str, EventReason, str], None]
"""Takes the resource, `Normal` or `Warning`, the reason and the message."""

_BECAME: dict[tuple[str, str], tuple[str, EventReason]] = {
    ("Ready", "True"): ("Normal", EventReason.READY),
    ("Ready", "False"): ("Warning", EventReason.NOT_READY),
    ("StorageReady", "False"): ("Warning", EventReason.DEPENDENCY_FAILED),
    ("MetadataReady", "False"): ("Warning", EventReason.DEPENDENCY_FAILED),
    ("UpgradeBlocked", "True"): ("Warning", EventReason.UPGRADE_BLOCKED),
    ("ReindexRequired", "True"): ("Warning", EventReason.REINDEX_REQUIRED),
    ("RecallMet", "False"): ("Warning", EventReason.RECALL_MISSED),
    ("Consistent", "False"): ("Warning", EventReason.INCONSISTENT),
    ("Paused", "True"): ("Normal", EventReason.PAUSED),
    ("Paused", "False"): ("Normal", EventReason.RESUMED),
}
_SILENT: tuple[str, EventReason | None] = ("", None)
_BECAUSE: dict[tuple[str, str], tuple[str, EventReason | None]] = {
    ("Ready", Reason.SUSPENDED): ("Normal", EventReason.SUSPENDED),
    ("Ready", Reason.INVALID_SPEC): ("Warning", EventReason.INVALID_SPEC),
    ("MetadataReady", Reason.MIGRATING): _SILENT,
    ("MetadataReady", Reason.MIGRATION_FAILED): ("Warning", EventReason.MIGRATION_FAILED),
}
"""What is told otherwise than the condition alone would have it: a migration under way, for one, is no failure."""


def announce(tell: Announce, body: Any, member: Member, status: Status, written: Sequence[str]) -> None:
    """Tell of every condition that turned, of a new plan, and of what was written."""
    before = {c.type: c for c in member.status.conditions}
    for condition in status.conditions:
        _announce_condition(tell, body, before.get(condition.type), condition)
    old = member.status.plan
    if status.plan is not None and (
        old is None or (old.id, old.state) != (status.plan.id, status.plan.state)
    ):
        message = f"{status.plan.change} ({status.plan.state}): {'; '.join(status.plan.summary)}"
        tell(body, "Normal", EventReason.PLANNED, message[:1000])
    if _migrated(before.get("MetadataReady"), status):
        tell(
            body,
            "Normal",
            EventReason.MIGRATED,
            "the database has this release's schema and the index's API keys",
        )
    for kind, reason, message in generation_events(member.status.generation, status.generation):
        tell(body, kind, reason, message[:1000])
    for kind, reason, message in reindex_events(member.status.reindex, status.reindex):
        tell(body, kind, reason, message[:1000])
    if written:
        tell(body, "Normal", _cause(member, status, written), "; ".join(written)[:1000])


def _migrated(before: Condition | None, status: Status) -> bool:
    now = next((c for c in status.conditions if c.type == "MetadataReady"), None)
    return (
        before is not None and before.reason == Reason.MIGRATING and now is not None and now.status == "True"
    )


def _cause(member: Member, status: Status, written: Sequence[str]) -> EventReason:
    """Why something was written: other secrets, another spec, or a child that somebody changed."""
    if any(line.startswith(ROTATED) for line in written):
        return EventReason.SECRET_ROTATED
    return EventReason.APPLIED if _changed(member, status) else EventReason.REPAIRED


def _changed(member: Member, status: Status) -> bool:
    """Whether what was written comes from a changed spec or credentials rather than from a child that was changed."""
    return member.status.applied != status.applied or status.plan is not None


def _announce_condition(tell: Announce, body: Any, before: Condition | None, now: Condition) -> None:
    if before is not None and _event(before) == _event(now):
        return
    if before is None and (now.type, now.status) in (("Paused", "False"), ("Ready", "False")):
        return
    kind, reason = _event(now)
    if reason is not None:
        tell(body, kind, reason, f"{now.reason}: {now.message}"[:1000])


def _event(condition: Condition) -> tuple[str, EventReason | None]:
    """The event that tells of a condition; no reason where none does."""
    became = _BECAME.get((condition.type, condition.status), _SILENT)
    return _BECAUSE.get((condition.type, condition.reason), became)
