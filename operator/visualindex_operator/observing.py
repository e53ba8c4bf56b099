"""Gathering what the planner has to know of a group: dependencies, jobs, and how its applications stand."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from pydantic import ValidationError

from visualindex.catalog import EncoderRecord
from visualindex.catalog.inspection import GenerationInspected
from visualindex.catalog.reindex_inspection import ReindexInspected
from visualindex.checking import in_short
from visualindex.credentials import Credentials
from visualindex.planning.observations import (
    Check,
    Dependencies,
    EncoderSeen,
    Generation,
    GroupObserved,
    LastCheck,
    Member,
    MemberObserved,
    MigrationState,
    ReindexJob,
    ReindexRun,
    Serving,
)
from visualindex.planning.plan import applied_spec
from visualindex.spec import EncoderSpec, Spec
from visualindex.spec.status import EncoderStatus
from visualindex_operator import names
from visualindex_operator.dependencies import Checked, DependencyChecks
from visualindex_operator.homes import Home, Seen
from visualindex_operator.live import Live
from visualindex_operator.reindex_runs import ReindexRuns, RunRefused

_NOTHING = Check(False, "InvalidSpec", "the spec cannot be understood")


async def observe(
    namespace: str,
    cluster: str,
    members: Sequence[Member],
    live: Live,
    home: Home,
    checks: DependencyChecks,
    runs: ReindexRuns,
) -> Seen:
    """Everything about a group, as it is now. Raises KubeError when the API server does not tell."""
    standing, outcomes = await asyncio.gather(
        home.look(namespace, cluster, members, live),
        asyncio.gather(*(_checked(namespace, one, checks) for one in members)),
    )
    seen: dict[str, MemberObserved] = {}
    fresh: dict[str, Credentials] = {}
    inputs: dict[str, Any] = {}
    for one, (spec, checked) in zip(members, outcomes, strict=True):
        serving = standing.serving.get(one.name, Serving())
        if spec is None or checked is None:
            seen[one.name] = MemberObserved(Dependencies(_NOTHING, _NOTHING, _NOTHING), serving)
            continue
        if checked.credentials is not None:
            fresh[one.name] = checked.credentials
        inputs[one.name] = migration_inputs(spec, checked)
        begun, untold = await _runs(namespace, one, spec, checked, live, runs)
        seen[one.name] = MemberObserved(
            dependencies=_dependencies(namespace, one.name, checked, inputs[one.name], live),
            serving=serving,
            images=checked.inspection.images if checked.inspection else None,
            encoder=_encoder(checked),
            generations=_generations(checked),
            check=_last_check(checked),
            encoders=_encoders(checked),
            reindex=_reindex(checked.inspection.reindex) if checked.inspection else None,
            reindexed=_reindex(checked.inspection.reindexed) if checked.inspection else None,
            runs=begun,
            runs_untold=untold,
        )
    observed = GroupObserved(
        members=seen,
        cluster_shape=standing.shape,
        cluster_endpoint=standing.endpoint,
        dashboard=standing.dashboard,
    )
    return Seen(observed, standing, fresh, inputs)


async def _checked(
    namespace: str, one: Member, checks: DependencyChecks
) -> tuple[Spec | None, Checked | None]:
    spec = one.spec or applied_spec(one.status)
    return spec, None if spec is None else await checks.check(namespace, one.name, spec)


async def _runs(
    namespace: str, member: Member, spec: Spec, checked: Checked, live: Live, runs: ReindexRuns
) -> tuple[Sequence[ReindexRun] | None, str]:
    """The runs of an index's rebuilds, or why they are untold. A cluster of others is asked only while there may be any."""
    told, found = member.status.reindex, checked.inspection
    apart = found is not None and found.reindex is not None and found.reindex.apart
    if spec.ray.mode == "External" and not (apart or (told is not None and told.run)):
        return (), ""
    try:
        return await runs.of(namespace, member.name, spec, live), ""
    except RunRefused as problem:
        return None, str(problem)


def migration_inputs(spec: Spec, checked: Checked) -> dict[str, str]:
    """What a migration depends on: it has to run again for another release, database or set of keys."""
    dsn = checked.credentials.dsn if checked.credentials else ""
    return {"image": str(spec.ray.image), "database": names.digest(dsn), "keys": checked.keys_digest}


def _dependencies(
    namespace: str, index: str, checked: Checked, inputs: Mapping[str, str], live: Live
) -> Dependencies:
    state, message = job_state(live.job(namespace, names.job(index, "migrate", inputs)))
    return Dependencies(
        metadata=checked.metadata,
        storage=checked.storage,
        keys=checked.keys,
        redis=checked.redis,
        credentials=checked.credentials.digest() if checked.credentials else "",
        migration=state,
        migration_message=message,
    )


def job_state(job: Mapping[str, Any] | None) -> tuple[MigrationState, str]:
    """How far a job is, and why it failed."""
    if job is None:
        return "absent", ""
    status = job.get("status") or {}
    if status.get("succeeded"):
        return "done", ""
    if (failure := job_failure(job)) is not None:
        name = job["metadata"]["name"]
        return "failed", f"{failure.get('message', 'the job failed')}; see kubectl logs job/{name}"
    return "running", ""


def job_failure(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The condition that says a job has failed for good; None while it has not."""
    conditions: list[Mapping[str, Any]] = (job.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == "Failed" and c.get("status") == "True"), None)


def _encoder(checked: Checked) -> EncoderStatus | None:
    found = checked.inspection
    if found is None or not found.fingerprint:
        return None
    return EncoderStatus(fingerprint=found.fingerprint, dimension=found.dimension)


def _generations(checked: Checked) -> tuple[Generation, ...] | None:
    return None if checked.inspection is None else tuple(map(_generation, checked.inspection.generations))


def _encoders(checked: Checked) -> tuple[EncoderSeen, ...]:
    """Those that the index is served with; one of a release with other settings is left out."""
    found = []
    for one in () if checked.inspection is None else checked.inspection.encoders:
        with suppress(ValidationError, KeyError):
            found.append(_encoder_seen(one))
    return tuple(found)


def _encoder_seen(one: EncoderRecord) -> EncoderSeen:
    return EncoderSeen(
        fingerprint=one.fingerprint,
        section=EncoderSpec.model_validate(one.settings["encoder"]),
        state=one.state,
        problem=one.problem,
        searched=one.searched,
        generations=tuple(one.generations),
        held_by=one.held_by,
        gateways=one.gateways,
    )


def _last_check(checked: Checked) -> LastCheck | None:
    found = None if checked.inspection is None else checked.inspection.check
    if found is None:
        return None
    return LastCheck(found.checked_at, bool(found.report["consistent"]), in_short(found.report))


def _reindex(found: ReindexInspected | None) -> ReindexJob | None:
    if found is None:
        return None
    return ReindexJob(
        id=str(found.job_id),
        state=found.state,
        apart=found.apart,
        phase=found.phase,
        done=found.done,
        total=found.total,
        held=found.held,
        released=found.lease_until,
        chunks=found.chunks,
        requested=found.requested_at,
        started=found.started_at,
        ended=found.ended_at,
        problem=found.problem,
        outcome=_reindex_outcome(found.result),
    )


def _reindex_outcome(result: Mapping[str, Any]) -> str:
    """What came of a rebuild, out of its summary, in half a sentence."""
    if not result.get("generation"):
        return ""
    refused = result.get("gate") == "refused"
    then = (
        "refused by the quality gate" if refused else "to be served" if result.get("activating") else "ready"
    )
    made = f"{result.get('images', 0):,} images, {result.get('encoded', 0):,} of them encoded"
    return f"generation {result['generation']} of {made}, {then}"


def _generation(found: GenerationInspected) -> Generation:
    recall, target = found.recall.get("recall"), found.recall.get("target")
    return Generation(
        id=found.generation,
        state=cast("Any", found.state),
        created=found.created_at,
        recall=None if recall is None else float(recall),
        target=None if target is None else float(target),
        met=bool(found.recall.get("met", True)),
        problem=found.problem,
    )
