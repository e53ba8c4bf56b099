"""What the operator reports of a `VisualIndex`: the models behind the CRD's `status`.

Conditions are observations, not steps: each says what was seen, why, and for which generation of the spec.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

ConditionType = Literal[
    "Ready",
    "ServingReady",
    "StorageReady",
    "MetadataReady",
    "Degraded",
    "Paused",
    "UpgradeBlocked",
    "ReindexRequired",
    "RecallMet",
    "Consistent",
    "Reindexing",
]
ChangeKind = Literal["Create", "InPlace", "NewCluster", "Recreate", "Reindex", "Suspend", "Resume"]


class StatusModel(BaseModel):
    """Base of the status models: camelCase keys; what a newer operator wrote is kept out, not refused."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, extra="ignore", frozen=True)


class Condition(StatusModel):
    """One observation, in the form of Kubernetes' own conditions."""

    type: ConditionType = Field(description="What was observed.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(
        pattern=r"^[A-Z][A-Za-z0-9]*$", description="Why, in one word that programs may rely on."
    )
    message: str = Field(
        default="", description="Why, for a person, with what to do where something is wrong."
    )
    observed_generation: int = Field(default=0, description="The metadata.generation that was observed.")
    last_transition_time: str = Field(
        default="",
        description="When `status` last changed, RFC 3339.",
        json_schema_extra={"format": "date-time"},
    )


class Footprint(StatusModel):
    """What an index takes of the cluster."""

    pods: int = Field(default=0, description="Ray pods, the head included.")
    replicas: int = Field(default=0, description="Replicas of gateways, encoders and shards together.")
    cpus: str = Field(default="0", description="CPU requests of the pods.")
    memory: str = Field(default="0", description="Memory of the pods, as a quantity.")
    gpus: int = Field(default=0, description="GPUs of the pods.")


class Plan(StatusModel):
    """What a changed spec will cause."""

    id: str = Field(
        description="Names this change; the annotation `visualindex.dev/approve` repeats it to approve."
    )
    change: ChangeKind = Field(
        description="`InPlace`: within the running cluster. `NewCluster`: a second cluster, then a switch. `Recreate`: the "
        "cluster ends and starts again, an outage. `Reindex`: all images must be encoded again, and meanwhile both encoders "
        "are served."
    )
    state: Literal["Waiting", "Blocked", "Pending", "Proceeding"] = Field(
        description="`Waiting` for approval, `Blocked` by the GPU budget, `Pending` until a dependency is there or all "
        "images are encoded again, or `Proceeding`."
    )
    summary: list[str] = Field(default=[], description="What changes, one line each.")
    before: Footprint = Field(default=Footprint(), description="What the index takes now.")
    during: Footprint = Field(default=Footprint(), description="What it takes at most while it changes.")
    after: Footprint = Field(default=Footprint(), description="What it will take.")
    capacity: list[str] = Field(
        default=[],
        description="What its images take then, or a million while it has none: shards, memory, disk, objects, build, "
        "encoder and Postgres, one line each, as `visualindex plan` says it; and what does not fit.",
    )


class Endpoints(StatusModel):
    """Where the index is reached."""

    search: str = Field(default="", description="Base URL of the HTTP API, inside the cluster.")
    dashboard: str = Field(
        default="", description="URL of the Ray dashboard, inside the cluster; it wants a token."
    )


class EncoderStatus(StatusModel):
    """The encoder whose vectors are being searched."""

    fingerprint: str = Field(
        default="", description="Identity of model, weights, preprocessing and projection."
    )
    dimension: int = Field(default=0, description="Dimension of the vectors.")


class NextGeneration(StatusModel):
    """A snapshot newer than the served one."""

    id: str = Field(default="", description="The generation.")
    state: Literal["ready", "preparing", "failed", "kept"] = Field(
        default="ready",
        description="`ready` to be activated, `preparing`: shards load it, `failed`: it could not be activated, or `kept`: "
        "it was served before a rollback.",
    )
    recall: str = Field(default="", description="Measured recall@10 against exact search.")
    problem: str = Field(
        default="",
        description="Why it could not be activated, was refused by the quality gate, or is not served any more.",
    )


class GenerationStatus(StatusModel):
    """The snapshot of the index that is being served; without an id shards index the images as they come."""

    id: str = Field(default="", description="The generation.")
    recall: str = Field(default="", description="Measured recall@10 against exact search.")
    created_at: str | None = Field(
        default=None, description="When it was built, RFC 3339.", json_schema_extra={"format": "date-time"}
    )
    next: NextGeneration | None = Field(
        default=None, description="One that is to be served after it, or that was to be."
    )


class ReindexOutcome(StatusModel):
    """A rebuild that has ended."""

    job: str = Field(default="", description="The job.")
    state: Literal["done", "failed", "cancelled"] = Field(default="done", description="How it ended.")
    ended_at: str | None = Field(
        default=None, description="When, RFC 3339.", json_schema_extra={"format": "date-time"}
    )
    outcome: str = Field(default="", description="What came of it, or why it failed.")


class ReindexStatus(StatusModel):
    """The rebuild that is under way, and the one before."""

    job: str = Field(default="", description="The job that is under way; empty when none is.")
    state: str = Field(default="", description="`queued`, `running` or `paused`.")
    started_at: str | None = Field(
        default=None,
        description="When it was first begun, RFC 3339.",
        json_schema_extra={"format": "date-time"},
    )
    progress: str = Field(default="", description="How far it is.")
    run: str = Field(
        default="",
        description="The RayJob, or the job on the external cluster, that carries it out, or did and is still listed.",
    )
    last: ReindexOutcome | None = Field(default=None, description="The rebuild that ended last.")
    asked: str = Field(
        default="",
        description="The value of the annotation `visualindex.dev/reindex` for which a rebuild was last asked.",
    )


class Status(StatusModel):
    """The observed state of one visual search index."""

    observed_generation: int = Field(
        default=0, description="The metadata.generation this status was made from."
    )
    conditions: list[Condition] = Field(
        default=[],
        description="Observations, one per type.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    images: int | None = Field(default=None, description="Images that can be found.")
    endpoints: Endpoints | None = Field(default=None, description="Where the index is reached.")
    encoder: EncoderStatus | None = Field(default=None, description="The encoder of the served vectors.")
    generation: GenerationStatus | None = Field(default=None, description="The served generation.")
    reindex: ReindexStatus | None = Field(default=None, description="Rebuilds of the index.")
    cluster: str = Field(
        default="", description="The Ray cluster: RayService name, or address in mode External."
    )
    postgres_connections: int | None = Field(
        default=None, description="Most connections to Postgres that the index's processes open together."
    )
    plan: Plan | None = Field(default=None, description="The change that is under way or waits.")
    room: list[dict[str, Any]] = Field(
        default=[],
        description="Encoders, as `spec.encoder` has them, that the pods have room for besides: those that the index is, or "
        "lately was, served with while it moves to another.",
        json_schema_extra={"items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    )
    applied: dict[str, Any] | None = Field(
        default=None,
        description="The spec that is being served.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
