"""Conditions: what was seen of an index, in the words that programs and people read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from visualindex.planning.encoder_phase import Phase
from visualindex.planning.observations import Check, MemberObserved
from visualindex.spec.status import Condition, ConditionType, Plan


class Reason(StrEnum):
    """`reason` of a condition; docs/operations.md explains each."""

    # Ready
    SEARCH_ANSWERS = "SearchAnswers"
    NOT_ANSWERING = "NotAnswering"
    DEPENDENCY_MISSING = "DependencyMissing"
    SUSPENDED = "Suspended"
    INVALID_SPEC = "InvalidSpec"
    # ServingReady
    RUNNING = "Running"
    STARTING = "Starting"
    DEPLOY_FAILED = "DeployFailed"
    CLUSTER_UNREACHABLE = "ClusterUnreachable"
    CLUSTER_REFUSED = "ClusterRefused"
    KUBERAY_MISSING = "KubeRayMissing"
    NAME_TAKEN = "NameTaken"
    # StorageReady, MetadataReady
    CONNECTED = "Connected"
    NOT_CONFIGURED = "NotConfigured"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a word, not a secret
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    UNREACHABLE = "Unreachable"
    FOLDER_DECLARED = "FolderDeclared"
    MIGRATING = "Migrating"
    MIGRATION_FAILED = "MigrationFailed"
    # Degraded
    AS_WANTED = "AsWanted"
    PARTS_MISSING = "PartsMissing"
    SETTINGS_DIFFER = "SettingsDiffer"
    NOT_APPLIED = "NotApplied"
    PINNED_NOT_SERVED = "PinnedNotServed"
    # Paused
    ANNOTATED = "Annotated"
    NOT_PAUSED = "NotPaused"
    # UpgradeBlocked
    NOT_BLOCKED = "NotBlocked"
    GPU_BUDGET = "GpuBudget"
    APPROVAL_NEEDED = "ApprovalNeeded"
    # ReindexRequired
    ENCODER_CHANGED = "EncoderChanged"
    ENCODER_LOADING = Phase.ENCODER_LOADING.value
    ENCODER_UNAVAILABLE = Phase.ENCODER_UNAVAILABLE.value
    BOTH_SERVED = Phase.BOTH_SERVED.value
    REINDEXING = Phase.REINDEXING.value
    CANDIDATE_REFUSED = Phase.CANDIDATE_REFUSED.value
    CANDIDATE_READY = Phase.CANDIDATE_READY.value
    SWITCHING = Phase.SWITCHING.value
    SWITCH_FAILED = Phase.SWITCH_FAILED.value
    SAME_ENCODER = "SameEncoder"
    # RecallMet
    TARGET_MET = "TargetMet"
    TARGET_MISSED = "TargetMissed"
    NO_GENERATION = "NoGeneration"
    # Consistent
    NOTHING_DIFFERS = "NothingDiffers"
    FAULTS_LEFT = "FaultsLeft"
    NEVER_CHECKED = "NeverChecked"
    # Reindexing
    NO_REINDEX = "NoReindex"
    REINDEX_WAITS = "ReindexWaits"
    REINDEX_RUNS = "ReindexRuns"
    REINDEX_PAUSED = "ReindexPaused"
    REINDEX_DONE = "ReindexDone"
    REINDEX_FAILED = "ReindexFailed"
    REINDEX_CANCELLED = "ReindexCancelled"


def condition(type_: ConditionType, holds: bool | None, reason: str, message: str = "") -> Condition:
    """A condition without its time; None is Unknown."""
    status: Literal["True", "False", "Unknown"] = "Unknown" if holds is None else "True" if holds else "False"
    return Condition(type=type_, status=status, reason=reason, message=message)


def metadata_ready(observed: MemberObserved) -> Condition:
    """The database answers, and has this release's schema and the index's keys."""
    dependencies = observed.dependencies
    if not dependencies.metadata.ok:
        return _of_check("MetadataReady", dependencies.metadata)
    if not dependencies.keys.ok:
        return _of_check("MetadataReady", dependencies.keys)
    if dependencies.migration == "failed":
        return condition("MetadataReady", False, Reason.MIGRATION_FAILED, dependencies.migration_message)
    if dependencies.migration != "done":
        message = "a Job brings the database to this release's schema and registers the API keys"
        return condition("MetadataReady", False, Reason.MIGRATING, message)
    return _of_check("MetadataReady", dependencies.metadata)


def storage_ready(observed: MemberObserved) -> Condition:
    """The object store takes writes."""
    return _of_check("StorageReady", observed.dependencies.storage)


def serving_ready(observed: MemberObserved) -> Condition:
    """The applications run."""
    serving = observed.serving
    if serving.running:
        return condition("ServingReady", True, Reason.RUNNING, serving.message)
    reason = serving.reason or (Reason.DEPLOY_FAILED if serving.failed else Reason.STARTING)
    return condition("ServingReady", False, reason, serving.message)


def ready(observed: MemberObserved, others: Sequence[Condition]) -> Condition:
    """A search through the Service answers; else the first thing that is missing."""
    if observed.serving.answers is None:
        return condition("Ready", True, Reason.SEARCH_ANSWERS, "searches are answered")
    missing = [c for c in others if c.status != "True"]
    if missing:
        return condition(
            "Ready", False, Reason.DEPENDENCY_MISSING, f"{missing[0].type}: {missing[0].message}"
        )
    return condition("Ready", False, Reason.NOT_ANSWERING, observed.serving.answers)


def pinned_not_served(pinned: str | None, observed: MemberObserved) -> str:
    """Why the generation that the spec names is not the one that is served; empty if it is, or is about to be."""
    if pinned is None or observed.generations is None:
        return ""
    found = next((one for one in observed.generations if one.id == pinned), None)
    if found is None:
        return (
            f"spec.generation names {pinned}, which the index does not have (any more): name another one or remove the "
            "field"
        )
    if found.state == "active" or not found.problem:
        return ""
    return f"spec.generation names {pinned}, which is not served: {found.problem}; it is tried again"


def upgrade_blocked(plan: Plan | None, gpu_budget: int | None) -> Condition:
    """A change of the spec waits for a person."""
    if plan is not None and plan.state == "Blocked":
        return condition("UpgradeBlocked", True, Reason.GPU_BUDGET, _beyond_the_budget(plan, gpu_budget))
    if plan is not None and plan.state == "Waiting":
        message = f"the change waits for the annotation visualindex.dev/approve={plan.id}"
        return condition("UpgradeBlocked", True, Reason.APPROVAL_NEEDED, message)
    return condition("UpgradeBlocked", False, Reason.NOT_BLOCKED)


def _beyond_the_budget(plan: Plan, gpu_budget: int | None) -> str:
    approval = f"with the annotation visualindex.dev/approve={plan.id}"
    if plan.change == "NewCluster":
        return (
            f"two clusters side by side take {plan.during.gpus} GPUs, ray.gpuBudget is {gpu_budget}: raise it, or approve "
            f"an outage {approval}"
        )
    return f"this takes {plan.during.gpus} GPUs, ray.gpuBudget is {gpu_budget}: raise it, or approve that {approval}"


def recall_met(observed: MemberObserved, old: Sequence[Condition]) -> Condition:
    """The served generation finds as much as was asked for, as measured against exact search when it was built.

    While the database does not tell, what it said last goes on to hold.
    """
    served = observed.generation
    if observed.generations is None:
        said = next((c for c in old if c.type == "RecallMet"), None)
        return said or condition("RecallMet", None, Reason.NO_GENERATION, "the database has not told yet")
    if served is None:
        return condition("RecallMet", None, Reason.NO_GENERATION, _LIVE)
    if served.met:
        return condition("RecallMet", True, Reason.TARGET_MET, f"{served.figures} wanted")
    remedy = (
        "build another generation (kubectl visualindex generations NAME --build), or state a lower target"
    )
    return condition("RecallMet", False, Reason.TARGET_MISSED, f"{served.figures} wanted: {remedy}")


_LIVE = "no generation was activated yet: shards index the images as they come, and nothing was measured"


def consistent(observed: MemberObserved, old: Sequence[Condition]) -> Condition:
    """Database, object store, generations and replicas held the same when they were last compared.

    While the database does not tell, what it said last goes on to hold.
    """
    check = observed.check
    if observed.generations is None:
        said = next((c for c in old if c.type == "Consistent"), None)
        return said or condition("Consistent", None, Reason.NEVER_CHECKED, "the database has not told yet")
    if check is None:
        message = "nothing was compared yet: visualindex index check NAME"
        return condition("Consistent", None, Reason.NEVER_CHECKED, message)
    when = f"{check.ended.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if check.consistent:
        return condition("Consistent", True, Reason.NOTHING_DIFFERS, f"compared at {when}")
    remedy = "visualindex index check NAME --repair --wait"
    message = f"left at {when}: {check.faults[:_FAULTS]}; mend them with {remedy}"
    return condition("Consistent", False, Reason.FAULTS_LEFT, message)


_FAULTS = 500


def not_applied(conditions: Sequence[Condition], why: str) -> list[Condition]:
    """The conditions of an index for which something could not be written: it is not as wanted, whatever else holds."""
    failed = condition("Degraded", True, Reason.NOT_APPLIED, why)
    return [failed if c.type == "Degraded" else c for c in conditions]


def stamped(
    new: Sequence[Condition], old: Sequence[Condition], generation: int, now: datetime
) -> list[Condition]:
    """The conditions with their times: `last_transition_time` moves only when `status` does."""
    before = {c.type: c for c in old}
    text = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [_stamp(c, before.get(c.type), generation, text) for c in new]


def _stamp(new: Condition, old: Condition | None, generation: int, now: str) -> Condition:
    since = old.last_transition_time if old is not None and old.status == new.status else now
    return new.model_copy(update={"observed_generation": generation, "last_transition_time": since or now})


def _of_check(type_: ConditionType, check: Check) -> Condition:
    return condition(type_, check.ok, check.reason, check.message)
