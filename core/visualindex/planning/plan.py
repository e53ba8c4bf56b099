"""`plan(members, observed) → actions and statuses`: what may happen now to the indexes that share a cluster.

A pure function of what was read. It is asked again and again; between two calls nothing is remembered but what stands in
`status`. Where something is missing, what already serves goes on as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from visualindex.footprint import postgres_connections
from visualindex.planning import conditions
from visualindex.planning.changes import (
    describe_change,
    describe_creation,
    same_encoder,
    with_encoder_of,
)
from visualindex.planning.conditions import Reason, condition
from visualindex.planning.observations import Dependencies, GroupObserved, Member, MemberObserved
from visualindex.planning.shape import ClusterShape, cluster_shape
from visualindex.spec import Spec, VisualIndex
from visualindex.spec.models import ObjectMeta
from visualindex.spec.status import Condition, Endpoints, Plan, Status


@dataclass(frozen=True)
class Served:
    """An index that is to be served, and how. `renewed` when the secrets just checked replace those in use."""

    name: str
    spec: Spec
    route_prefix: str
    renewed: bool

    @property
    def resource(self) -> VisualIndex:
        """As a resource, for what is built from resources."""
        return as_resource(self.name, self.spec)


@dataclass(frozen=True)
class Migrate:
    """Bring the database of an index to this release's schema, with its keys."""

    index: str
    spec: Spec


@dataclass(frozen=True)
class Serve:
    """Have a cluster of this shape that serves exactly these indexes."""

    served: tuple[Served, ...]
    shape: ClusterShape


@dataclass(frozen=True)
class StopServing:
    """Have no cluster, and no applications on one that is not ours."""


@dataclass(frozen=True)
class EndCluster:
    """End the cluster so that another can be made in its place."""


Action = Migrate | Serve | StopServing | EndCluster


@dataclass(frozen=True)
class GroupPlan:
    """What to do now, in this order, and what to report afterwards."""

    actions: tuple[Action, ...] = ()
    statuses: Mapping[str, Status] = field(default_factory=dict)


@dataclass(frozen=True)
class _Decision:
    """What is decided for one index."""

    member: Member
    seen: MemberObserved
    serve: Spec | None = None
    """The spec to serve with; None: not served."""
    applied: Spec | None = None
    """What `status.applied` says from now on."""
    renewed: bool = False
    change: Plan | None = None
    """What a person is told of."""
    gated: Plan | None = None
    """The part of it that is carried out here, and whether it may be."""
    migrate: Spec | None = None
    reindex: bool = False
    recreate: bool = False


def plan(members: Sequence[Member], observed: GroupObserved, *, cluster: str, now: datetime) -> GroupPlan:
    """What may happen now to the `members` of the group whose cluster is called `cluster`."""
    alive = [m for m in sorted(members, key=lambda m: (m.created, m.name)) if not m.deleting]
    decisions = [_decide(member, observed.members[member.name]) for member in alive]
    served = tuple(
        Served(d.member.name, d.serve, route_prefix(d.member.name, cluster), d.renewed)
        for d in decisions
        if d.serve is not None
    )
    migrations = [Migrate(d.member.name, d.migrate) for d in decisions if d.migrate is not None]
    serving = _serving(decisions, served, observed)
    ending = any(isinstance(action, EndCluster) for action in serving)
    statuses = {
        d.member.name: _status(d, decisions, observed, cluster, now, ending=ending) for d in decisions
    }
    return GroupPlan((*migrations, *serving), statuses)


def route_prefix(name: str, cluster: str) -> str:
    """Where an index answers: at the root of the cluster that has its name, else under its own name."""
    return "/" if name == cluster else f"/{name}"


def as_resource(name: str, spec: Spec) -> VisualIndex:
    """The resource of that name."""
    return VisualIndex(
        api_version="visualindex.dev/v1alpha1", kind="VisualIndex", metadata=ObjectMeta(name=name), spec=spec
    )


def applied_spec(status: Status) -> Spec | None:
    """The spec that is being served, as the status remembers it; None without one."""
    if status.applied is None:
        return None
    try:
        return Spec.model_validate(status.applied)
    except ValidationError:  # written by a release with other fields: the present spec takes its place
        return None


def _decide(member: Member, seen: MemberObserved) -> _Decision:
    applied, wanted = applied_spec(member.status), member.spec
    kept = _Decision(member, seen, serve=_unless_suspended(applied), applied=applied)
    if wanted is None or member.paused:
        return kept
    may_start, migrate = _dependencies(seen.dependencies, wanted)
    if applied is None:
        if not may_start:
            return _Decision(member, seen, migrate=migrate, change=describe_creation(wanted, member.name))
        creation = describe_creation(wanted, member.name)
        return _Decision(member, seen, _unless_suspended(wanted), wanted, True, creation, creation)
    target, reindex = _reachable(applied, wanted, seen.images)
    change = describe_change(applied, wanted, seen.images, member.name)
    carried = describe_change(applied, target, seen.images, member.name) if reindex else change
    gated, recreate = _gated(member, carried, change, target)
    if carried is not None and (gated is None or gated.state != "Proceeding"):
        return _Decision(
            member,
            seen,
            kept.serve,
            applied,
            may_start,
            _told(change, gated, reindex),
            gated,
            migrate,
            reindex,
        )
    if not may_start:
        return _Decision(
            member, seen, kept.serve, applied, False, _told(change, gated, reindex), gated, migrate, reindex
        )
    told = _told(change, gated, reindex)
    return _Decision(
        member, seen, _unless_suspended(target), target, True, told, gated, migrate, reindex, recreate
    )


def _unless_suspended(spec: Spec | None) -> Spec | None:
    return None if spec is None or spec.suspend else spec


def _dependencies(dependencies: Dependencies, wanted: Spec) -> tuple[bool, Spec | None]:
    """Whether an index may (re)start now, and the spec to migrate for when that is what is missing."""
    there = dependencies.metadata.ok and dependencies.keys.ok
    migrate = wanted if there and dependencies.migration == "absent" else None
    return there and dependencies.storage.ok and dependencies.migration == "done", migrate


def _reachable(applied: Spec, wanted: Spec, images: int | None) -> tuple[Spec, bool]:
    """What can be carried out without encoding everything again, and whether that is less than what is wanted."""
    if images == 0 or same_encoder(applied, wanted):
        return wanted, False
    return with_encoder_of(wanted, applied), True


def _gated(
    member: Member, carried: Plan | None, change: Plan | None, target: Spec
) -> tuple[Plan | None, bool]:
    """The change with its state, and whether the cluster has to end before it."""
    if carried is None or change is None:
        return None, False
    if carried.change in ("Suspend", "Resume"):
        return carried, False
    approved = member.approved in (carried.id, change.id)
    budget = target.ray.gpu_budget
    too_many = carried.change == "NewCluster" and budget is not None and carried.during.gpus > budget
    if too_many and not approved:
        return carried.model_copy(update={"state": "Blocked", "id": change.id}), False
    needs_approval = target.change_policy == "Approve" or carried.change == "Recreate"
    if needs_approval and not approved:
        return carried.model_copy(update={"state": "Waiting", "id": change.id}), False
    return carried, too_many or carried.change == "Recreate"


def _told(change: Plan | None, gated: Plan | None, reindex: bool) -> Plan | None:
    if change is None:
        return None
    if gated is not None and gated.state != "Proceeding":
        return change.model_copy(update={"state": gated.state})
    return change.model_copy(update={"state": "Waiting"}) if reindex else change


def _serving(
    decisions: Sequence[_Decision], served: tuple[Served, ...], observed: GroupObserved
) -> tuple[Action, ...]:
    if decisions and all(d.member.paused or d.member.spec is None for d in decisions):
        return ()
    if not served:
        idle = any(d.serve is None and d.applied is None for d in decisions)
        deployed = observed.cluster_shape or any(o.serving.deployed for o in observed.members.values())
        return () if idle and not deployed else (StopServing(),)
    shape = cluster_shape([one.resource for one in served])
    if any(d.recreate for d in decisions) and observed.cluster_shape not in ("", shape.identity()):
        return (EndCluster(),)
    return (Serve(served, shape),)


def _status(
    decision: _Decision,
    decisions: Sequence[_Decision],
    observed: GroupObserved,
    cluster: str,
    now: datetime,
    *,
    ending: bool,
) -> Status:
    member, seen, old = decision.member, decision.seen, decision.member.status
    applied = applied_spec(old) if ending else decision.applied
    found = _conditions(decision, decisions)
    spec = applied or member.spec
    return Status(
        observed_generation=member.generation,
        conditions=conditions.stamped(found, old.conditions, member.generation, now),
        images=old.images if seen.images is None else seen.images,
        endpoints=_endpoints(member.name, observed, cluster) if spec is not None else None,
        encoder=seen.encoder or old.encoder,
        generation=old.generation,
        cluster=cluster,
        postgres_connections=None if spec is None else postgres_connections(spec),
        plan=_plan_told(decision, old),
        applied=None if applied is None else dumped(applied),
    )


def dumped(spec: Spec) -> dict[str, Any]:
    """A spec as `status.applied` holds it."""
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def _endpoints(name: str, observed: GroupObserved, cluster: str) -> Endpoints | None:
    if not observed.cluster_endpoint:
        return None
    prefix = route_prefix(name, cluster).rstrip("/")
    return Endpoints(search=observed.cluster_endpoint + prefix, dashboard=observed.dashboard)


def _plan_told(decision: _Decision, old: Status) -> Plan | None:
    """The change that waits or is under way: one that was begun is told until the cluster has settled."""
    if decision.change is not None:
        return decision.change
    under_way = old.plan is not None and old.plan.state == "Proceeding"
    return old.plan if under_way and not decision.seen.serving.settled else None


def _conditions(decision: _Decision, decisions: Sequence[_Decision]) -> list[Condition]:
    member, seen = decision.member, decision.seen
    needed = [conditions.metadata_ready(seen), conditions.storage_ready(seen), conditions.serving_ready(seen)]
    return [
        _ready(decision, needed),
        needed[2] if decision.serve is not None else _not_served(decision, needed[2]),
        needed[1],
        needed[0],
        _degraded(decision, decisions, needed),
        _paused(member),
        conditions.upgrade_blocked(decision.gated, member.spec.ray.gpu_budget if member.spec else None),
        _reindex_required(decision),
    ]


def _ready(decision: _Decision, needed: Sequence[Condition]) -> Condition:
    if decision.member.spec is None:
        return condition("Ready", False, Reason.INVALID_SPEC, decision.member.problem)
    if _suspended(decision):
        return condition("Ready", False, Reason.SUSPENDED, "spec.suspend is true")
    return conditions.ready(decision.seen, needed)


def _not_served(decision: _Decision, as_seen: Condition) -> Condition:
    if _suspended(decision):
        message = "spec.suspend is true: the data is kept, and served again when it is false"
        return condition("ServingReady", False, Reason.SUSPENDED, message)
    if as_seen.status == "True" or decision.seen.serving.reason:
        return as_seen
    return condition(
        "ServingReady", False, Reason.DEPENDENCY_MISSING, "waits for the database and the object store"
    )


def _suspended(decision: _Decision) -> bool:
    return decision.applied is not None and decision.applied.suspend


def _degraded(decision: _Decision, decisions: Sequence[_Decision], needed: Sequence[Condition]) -> Condition:
    seen = decision.seen
    if seen.serving.answers is None:
        missing = [c for c in needed if c.status != "True"]
        if missing:
            message = f"{missing[0].type}: {missing[0].message}"
            return condition("Degraded", True, Reason.DEPENDENCY_MISSING, message)
        if seen.serving.missing:
            return condition("Degraded", True, Reason.PARTS_MISSING, seen.serving.missing)
    differing = _differing_settings(decision, decisions)
    if differing:
        return condition("Degraded", True, Reason.SETTINGS_DIFFER, differing)
    return condition("Degraded", False, Reason.AS_WANTED)


def _differing_settings(decision: _Decision, decisions: Sequence[_Decision]) -> str:
    leader = decisions[0]
    if leader is decision or decision.member.spec is None or leader.member.spec is None:
        return ""
    own, first = _ray_settings(decision.member.spec), _ray_settings(leader.member.spec)
    keys = sorted(key for key in {*own, *first} if own.get(key) != first.get(key))
    if not keys:
        return ""
    return f"the cluster is as {leader.member.name} states it; ray.{', ray.'.join(keys)} of this resource are not used"


def _ray_settings(spec: Spec) -> dict[str, Any]:
    return spec.ray.model_dump(
        mode="json", by_alias=True, exclude_unset=True, exclude={"cluster", "image", "redis"}
    )


def _paused(member: Member) -> Condition:
    if member.paused:
        message = "the annotation visualindex.dev/paused stops every change until it is removed"
        return condition("Paused", True, Reason.ANNOTATED, message)
    return condition("Paused", False, Reason.NOT_PAUSED)


def _reindex_required(decision: _Decision) -> Condition:
    if decision.reindex:
        message = (
            "the spec names another encoder than the stored vectors come from, and the old one goes on serving: take the "
            "change back, or fill an index of another name with the new one"
        )
        return condition("ReindexRequired", True, Reason.ENCODER_CHANGED, message)
    return condition("ReindexRequired", False, Reason.SAME_ENCODER)
