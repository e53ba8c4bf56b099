"""`plan(members, observed) → actions and statuses`: what may happen now to the indexes that share a cluster.

A pure function of what was read. It is asked again and again; between two calls nothing is remembered but what stands in
`status`. Where something is missing, what already serves goes on as it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from visualindex.footprint import postgres_connections
from visualindex.planning import conditions
from visualindex.planning.changes import (
    describe_change,
    describe_creation,
    room_afterwards,
    same_encoder,
    with_encoder_of,
)
from visualindex.planning.conditions import Reason, condition
from visualindex.planning.encoder_phase import Candidate, progress
from visualindex.planning.generations import generation_status
from visualindex.planning.observations import Dependencies, GroupObserved, Member, MemberObserved
from visualindex.planning.reindex_status import reindex_status, reindexing
from visualindex.planning.reindexing import ReindexAction, reindex_actions
from visualindex.planning.shape import ClusterShape, as_resource, cluster_shape, with_encoder
from visualindex.spec import EncoderSpec, Spec, VisualIndex
from visualindex.spec.models import RaySpec
from visualindex.spec.served_encoder import same_space, section_of, shown
from visualindex.spec.status import Condition, Endpoints, Plan, ReindexStatus, Status


@dataclass(frozen=True)
class Served:
    """An index that is to be served, and how. `renewed` when the secrets just checked replace those in use."""

    name: str
    spec: Spec
    route_prefix: str
    renewed: bool
    others: tuple[EncoderSpec, ...] = ()
    """Encoders that it is served with besides that of the spec."""

    @property
    def resource(self) -> VisualIndex:
        """As a resource, for what is built from resources."""
        return as_resource(self.name, self.spec)

    @property
    def beside(self) -> list[VisualIndex]:
        """The resource with each of the other encoders."""
        return [as_resource(self.name, with_encoder(self.spec, one)) for one in self.others]


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


@dataclass(frozen=True)
class AskReindex:
    """Ask the service for a rebuild, as the annotation has it."""

    index: str
    spec: Spec
    value: str


ReindexingAction = AskReindex | ReindexAction
Action = Migrate | Serve | StopServing | EndCluster | ReindexingAction
_WAITS = "waits for what the index depends on: see the conditions MetadataReady and StorageReady"


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
    """The encoder that the spec names is held back."""
    recreate: bool = False
    room: tuple[EncoderSpec, ...] = ()
    """Encoders that the pods have room for besides that of the spec."""


def plan(members: Sequence[Member], observed: GroupObserved, *, cluster: str, now: datetime) -> GroupPlan:
    """What may happen now to the `members` of the group whose cluster is called `cluster`."""
    alive = [m for m in sorted(members, key=lambda m: (m.created, m.name)) if not m.deleting]
    decided = [_decide(member, observed.members[member.name]) for member in alive]
    decisions = [_with_neighbours(one, decided) for one in decided]
    served = tuple(
        Served(
            d.member.name, d.serve, route_prefix(d.member.name, cluster), d.renewed, others(d.serve, d.seen)
        )
        for d in decisions
        if d.serve is not None
    )
    migrations = [Migrate(d.member.name, d.migrate) for d in decisions if d.migrate is not None]
    held = any(_serves_unknown(d) for d in decisions)
    leaving = any(member.deleting for member in members)
    serving = () if held else _serving(decisions, served, observed, leaving=leaving)
    postponed = held or any(isinstance(action, EndCluster) for action in serving)
    statuses = {
        d.member.name: _status(d, decisions, observed, cluster, now, postponed=postponed) for d in decisions
    }
    rebuilding = [action for d in decisions for action in _rebuilding(d, now)]
    return GroupPlan((*migrations, *serving, *rebuilding), statuses)


def route_prefix(name: str, cluster: str) -> str:
    """Where an index answers: at the root of the cluster that has its name, else under its own name."""
    return "/" if name == cluster else f"/{name}"


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
    kept = _Decision(
        member, seen, serve=_unless_suspended(applied), applied=applied, room=_room(member.status)
    )
    if wanted is None or member.paused:
        return kept
    there, migrate = _dependencies(seen.dependencies, wanted)
    prepared = replace(kept, migrate=migrate)
    may_proceed = there or wanted.suspend  # what ends needs nothing
    if applied is None:
        return _first_start(prepared, wanted, may_proceed)
    return _changed(prepared, applied, wanted, there, may_proceed)


def _rebuilding(decision: _Decision, now: datetime) -> Iterator[ReindexingAction]:
    """What is to be done for rebuilds: asked for by annotation, and carried out in places of their own."""
    member, seen = decision.member, decision.seen
    spec = _spec_of(member)
    if spec is None or member.paused:
        return
    if _asks(decision):
        yield AskReindex(member.name, spec, member.reindex)
    may_begin = _dependencies(seen.dependencies, spec)[0]
    yield from reindex_actions(member.name, spec, seen, now, may_begin=may_begin)


def _asks(decision: _Decision) -> bool:
    member = decision.member
    old = member.status.reindex
    unheard = member.reindex not in ("", old.asked if old is not None else "")
    able = not member.paused and _spec_of(member) is not None and decision.seen.serving.answers is None
    return unheard and able


def _spec_of(member: Member) -> Spec | None:
    return member.spec or applied_spec(member.status)


def _first_start(kept: _Decision, wanted: Spec, may_proceed: bool) -> _Decision:
    creation = _of_generation(kept.member, describe_creation(wanted, kept.member.name))
    if _too_many_gpus(creation, wanted) and kept.member.approved != creation.id:
        blocked = creation.model_copy(update={"state": "Blocked"})
        return replace(kept, change=blocked, gated=blocked)
    if not may_proceed:
        return replace(kept, change=_pending(creation, _WAITS))
    return replace(
        kept,
        serve=_unless_suspended(wanted),
        applied=wanted,
        renewed=True,
        change=creation,
        gated=creation,
    )


def others(spec: Spec, seen: MemberObserved) -> tuple[EncoderSpec, ...]:
    """The encoders that an index is served with besides that of a spec: one for each space of vectors."""
    found: list[EncoderSpec] = []
    for one in seen.encoders:
        known = [spec.encoder, *found]
        if one.state != "leaving" and not any(same_space(one.section, each) for each in known):
            found.append(one.section)
    return tuple(found)


def _moves(applied: Spec, wanted: Spec, seen: MemberObserved) -> bool:
    """Whether a change of the spec has everything encoded anew: not where it names again what searches use still."""
    used = [one.section for one in seen.encoders if one.searched]
    new = not same_encoder(applied, wanted) and seen.images != 0
    return new and not any(same_space(one, wanted.encoder) for one in used)


def _room(status: Status) -> tuple[EncoderSpec, ...]:
    """What the status remembers of it; a section of a release with other fields is left out."""
    found = []
    for one in status.room:
        with suppress(ValidationError):
            found.append(EncoderSpec.model_validate(one))
    return tuple(found)


def _changed(kept: _Decision, applied: Spec, wanted: Spec, there: bool, may_proceed: bool) -> _Decision:
    member, images = kept.member, kept.seen.images
    target, reindex = _reachable(applied, wanted, kept.seen)
    after = room_afterwards(applied, target, member.name, kept.room, others(target, kept.seen))
    room, moves = (kept.room, after), not reindex and _moves(applied, wanted, kept.seen)
    described = describe_change(
        applied, wanted, images, member.name, room=room, beside=not reindex, moves=moves
    )
    whole = None if described is None else _of_generation(member, described)
    change = whole.model_copy(update={"change": "Reindex"}) if whole is not None and moves else whole
    carried = describe_change(applied, target, images, member.name, room=room) if reindex else whole
    gated, recreate = _gated(member, carried, change, target)
    told = _told(change, gated, reindex, may_proceed)
    decided = replace(kept, change=told, gated=gated, reindex=reindex)
    if not may_proceed or (gated is not None and gated.state != "Proceeding"):
        return replace(decided, renewed=there and _same_sources(applied, wanted))
    return replace(
        decided,
        serve=_unless_suspended(target),
        applied=target,
        renewed=True,
        recreate=recreate,
        room=after,
    )


def _of_generation(member: Member, change: Plan) -> Plan:
    """An approval counts once: the same change, made again after it was taken back, is another."""
    return change.model_copy(update={"id": f"{change.id}-{member.generation}"})


def _too_many_gpus(change: Plan, target: Spec) -> bool:
    """Whether the index would hold more GPUs than it may, before, while or after it changes."""
    budget = target.ray.gpu_budget
    return budget is not None and change.during.gpus > max(budget, change.before.gpus)


def _same_sources(applied: Spec, wanted: Spec) -> bool:
    """Whether the secrets found for `wanted` are those of `applied` too: a change that waits must not bring its own."""
    return applied.postgres == wanted.postgres and applied.storage == wanted.storage


def _unless_suspended(spec: Spec | None) -> Spec | None:
    return None if spec is None or spec.suspend else spec


def _dependencies(dependencies: Dependencies, wanted: Spec) -> tuple[bool, Spec | None]:
    """Whether an index may (re)start now, and the spec to migrate for when that is what is missing."""
    there = dependencies.metadata.ok and dependencies.keys.ok
    migrate = wanted if there and dependencies.migration == "absent" else None
    others = dependencies.storage.ok and dependencies.redis.ok
    return there and others and dependencies.migration == "done", migrate


def _reachable(applied: Spec, wanted: Spec, seen: MemberObserved) -> tuple[Spec, bool]:
    """What can be carried out now, and whether that is less than what is wanted.

    Another encoder can be served beside the present one as soon as the database knows how that is loaded: then gateways
    find it there.
    """
    noted = any(one.searched and same_space(one.section, applied.encoder) for one in seen.encoders)
    if seen.images == 0 or same_encoder(applied, wanted) or noted or others(wanted, seen):
        return wanted, False
    return with_encoder_of(wanted, applied), True


def _gated(
    member: Member, carried: Plan | None, change: Plan | None, target: Spec
) -> tuple[Plan | None, bool]:
    """The change with its state, and whether the cluster has to end before it."""
    if carried is None or change is None:
        return None, False
    if carried.change == "Suspend":
        return carried, False
    approved = member.approved == change.id
    too_many = _too_many_gpus(carried, target)
    if too_many and not approved:
        return carried.model_copy(update={"state": "Blocked", "id": change.id}), False
    needs_approval = carried.change != "Resume" and (
        target.change_policy == "Approve" or carried.change == "Recreate"
    )
    if needs_approval and not approved:
        return carried.model_copy(update={"state": "Waiting", "id": change.id}), False
    return carried, (too_many and carried.change == "NewCluster") or carried.change == "Recreate"


def _told(change: Plan | None, gated: Plan | None, reindex: bool, may_proceed: bool) -> Plan | None:
    """What a person is told: of a change that is carried out in part, that part first and then what is left."""
    if change is None:
        return None
    if gated is None:
        return _pending(change)
    if gated.state != "Proceeding":
        return change.model_copy(update={"state": gated.state})
    if not may_proceed:
        return _pending(change, _WAITS)
    return gated if reindex else change


def _with_neighbours(decision: _Decision, decisions: Sequence[_Decision]) -> _Decision:
    """The decision with what its change does to the other indexes of the cluster: told where its pods are replaced."""
    change = decision.change
    others = [d.member.name for d in decisions if d is not decision and d.serve is not None]
    kind = None if change is None else change.change if decision.gated is None else decision.gated.change
    if change is None or not others or kind not in _OF_THE_WHOLE_CLUSTER:
        return decision
    line = _OF_THE_WHOLE_CLUSTER[kind].format(others=", ".join(others))
    first, *rest = change.summary
    return replace(decision, change=change.model_copy(update={"summary": [first, line, *rest]}))


_OF_THE_WHOLE_CLUSTER: dict[str, str] = {
    "NewCluster": "{others} on the same cluster are loaded a second time and move with it",
    "Recreate": "{others} on the same cluster cannot be searched meanwhile either",
}


def _pending(change: Plan, *lines: str) -> Plan:
    return change.model_copy(update={"state": "Pending", "summary": [*lines, *change.summary]})


def _serving(
    decisions: Sequence[_Decision], served: tuple[Served, ...], observed: GroupObserved, *, leaving: bool
) -> tuple[Action, ...]:
    at_rest = decisions and all(d.member.paused or d.member.spec is None for d in decisions)
    if at_rest and not leaving:
        return ()
    if not served:
        idle = any(d.serve is None and d.applied is None for d in decisions)
        deployed = observed.cluster_shape or any(o.serving.deployed for o in observed.members.values())
        return () if idle and not deployed else (StopServing(),)
    room = {d.member.name: d.room for d in decisions}
    shape = cluster_shape([one.resource for one in served], room)
    if any(d.recreate for d in decisions) and observed.cluster_shape not in ("", shape.identity()):
        return (EndCluster(),)
    return (Serve(served, shape),)


def _serves_unknown(decision: _Decision) -> bool:
    """It is served, by a spec that nobody remembers: until it may be served by the present one, nothing is touched."""
    return decision.applied is None and decision.seen.serving.deployed


def _status(
    decision: _Decision,
    decisions: Sequence[_Decision],
    observed: GroupObserved,
    cluster: str,
    now: datetime,
    *,
    postponed: bool,
) -> Status:
    member, seen, old = decision.member, decision.seen, decision.member.status
    applied = applied_spec(old) if postponed else decision.applied
    found = _conditions(decision, decisions)
    spec = applied or member.spec
    return Status(
        observed_generation=member.generation,
        conditions=conditions.stamped(found, old.conditions, member.generation, now),
        images=old.images if seen.images is None else seen.images,
        endpoints=_endpoints(member.name, seen, observed, cluster) if spec is not None else None,
        encoder=seen.encoder or old.encoder,
        generation=generation_status(seen) or old.generation,
        reindex=_reindex_told(decision),
        cluster=cluster,
        postgres_connections=None if spec is None else postgres_connections(spec),
        plan=_plan_told(decision, old),
        room=old.room if postponed else [section_of(one) for one in decision.room],
        applied=None if applied is None else dumped(applied),
    )


def _reindex_told(decision: _Decision) -> ReindexStatus | None:
    """Of rebuilds, with the value of the annotation that is heard in this look."""
    member = decision.member
    found = reindex_status(decision.seen, member.spec, member.status.reindex)
    if not _asks(decision):
        return found
    return (found or ReindexStatus()).model_copy(update={"asked": member.reindex})


def dumped(spec: Spec) -> dict[str, Any]:
    """A spec as `status.applied` holds it."""
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def _endpoints(name: str, seen: MemberObserved, observed: GroupObserved, cluster: str) -> Endpoints | None:
    base = seen.serving.endpoint or observed.cluster_endpoint
    if not base:
        return None
    prefix = route_prefix(name, cluster).rstrip("/")
    return Endpoints(search=base + prefix, dashboard=observed.dashboard)


def _plan_told(decision: _Decision, old: Status) -> Plan | None:
    """The change that waits or is under way: one that was begun is told until the cluster has settled."""
    if decision.change is not None:
        return decision.change
    serving = decision.seen.serving
    settled = serving.settled if decision.serve is not None else not serving.deployed
    under_way = old.plan is not None and old.plan.state == "Proceeding"
    return old.plan if under_way and not settled else None


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
        conditions.recall_met(seen, member.status.conditions),
        conditions.consistent(seen, member.status.conditions),
        reindexing(seen, member.spec, member.status.conditions),
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
    redis = decision.seen.dependencies.redis
    if not redis.ok:
        return condition("ServingReady", False, redis.reason, redis.message)
    return condition(
        "ServingReady", False, Reason.DEPENDENCY_MISSING, "waits for the database and the object store"
    )


def _suspended(decision: _Decision) -> bool:
    """Whether it is suspended, and not just asked to be while the cluster keeps it from that."""
    if decision.applied is None or not decision.applied.suspend:
        return False
    before = applied_spec(decision.member.status)
    serves = before is not None and not before.suspend
    return not (serves and decision.seen.serving.reason)


def _degraded(decision: _Decision, decisions: Sequence[_Decision], needed: Sequence[Condition]) -> Condition:
    seen = decision.seen
    if seen.serving.answers is None:
        missing = [c for c in needed if c.status != "True"]
        if missing:
            message = f"{missing[0].type}: {missing[0].message}"
            return condition("Degraded", True, Reason.DEPENDENCY_MISSING, message)
        if not seen.dependencies.redis.ok:
            return condition("Degraded", True, Reason.DEPENDENCY_MISSING, seen.dependencies.redis.message)
        if seen.serving.missing:
            return condition("Degraded", True, Reason.PARTS_MISSING, seen.serving.missing)
    differing = _differing_settings(decision, decisions)
    if differing:
        return condition("Degraded", True, Reason.SETTINGS_DIFFER, differing)
    pinned = conditions.pinned_not_served(decision.applied.generation if decision.applied else None, seen)
    if pinned:
        return condition("Degraded", True, Reason.PINNED_NOT_SERVED, pinned)
    return condition("Degraded", False, Reason.AS_WANTED)


def _differing_settings(decision: _Decision, decisions: Sequence[_Decision]) -> str:
    leader = next((d for d in decisions if d.serve is not None), decisions[0])
    own, first = decision.member.spec, leader.serve or leader.member.spec
    if leader is decision or own is None or first is None:
        return ""
    keys = _stated_otherwise(own.ray, first.ray)
    if not keys:
        return ""
    return f"the cluster is as {leader.member.name} states it; ray.{', ray.'.join(keys)} of this resource are not used"


_NOT_OF_THE_CLUSTER = {"cluster", "image", "redis", "upgrade", "gpu_budget"}
"""Settings that count for each index, or that the operator completes: those say nothing about what was stated."""


def _stated_otherwise(own: RaySpec, first: RaySpec) -> list[str]:
    """The sections in which `own` states something else than its defaults and than `first`."""
    stated = own.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_NOT_OF_THE_CLUSTER)
    mine, held = (ray.model_dump(mode="json", by_alias=True) for ray in (own, first))
    return sorted(key for key in stated if mine[key] != held[key])


def _paused(member: Member) -> Condition:
    if member.paused:
        message = "the annotation visualindex.dev/paused stops every change until it is removed"
        return condition("Paused", True, Reason.ANNOTATED, message)
    return condition("Paused", False, Reason.NOT_PAUSED)


def _reindex_required(decision: _Decision) -> Condition:
    wanted, seen = decision.member.spec, decision.seen
    if decision.reindex:
        message = (
            "the spec names another encoder than the stored vectors come from, and the old one goes on serving until its "
            "gateways have noted how it is loaded, which those of this release do when they start"
        )
        return condition("ReindexRequired", True, Reason.ENCODER_CHANGED, message)
    searched = next((one for one in seen.encoders if one.searched), None)
    if wanted is None or searched is None or same_space(searched.section, wanted.encoder):
        return condition("ReindexRequired", False, Reason.SAME_ENCODER, _still_served(decision))
    named = next((one for one in seen.encoders if same_space(one.section, wanted.encoder)), None)
    candidates = [Candidate(one.id, one.state, one.problem) for one in seen.generations or ()]
    told = progress(decision.member.name, named, candidates, rebuilding=seen.reindex is not None)
    return condition("ReindexRequired", True, Reason(told.phase.value), told.message)


def _still_served(decision: _Decision) -> str:
    """That another encoder is served as well, as long as there is a way back to it."""
    spec = decision.serve
    beside = () if spec is None else others(spec, decision.seen)
    if not beside:
        return ""
    return f"{', '.join(map(shown, beside))} is loaded as well until its last generation is retired"
