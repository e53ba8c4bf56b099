"""What is said of the generations of an index."""

import datetime as dt
import uuid
from typing import Any, Literal

from pydantic import BaseModel, Field

from visualindex.api.gate import GateReport, ShadowReport
from visualindex.api.search import ApiModel


class ActivateRequest(ApiModel):
    """How long a caller waits for an activation."""

    wait_s: float = Field(
        default=30.0,
        ge=0,
        le=600,
        description="Longest wait in seconds for the shards to load the generation; an activation goes on without.",
    )


class ActivateGenerationRequest(ActivateRequest):
    """How long a caller waits for an activation, and whether the quality gate is overruled."""

    force: bool = Field(
        default=False, description="Activate a generation that the quality gate refused, or has not judged."
    )


class BuildRequest(ApiModel):
    """What is to become of the generation that is built."""

    activate: bool = Field(
        default=False,
        description="Activate it when it is built, unless its measured recall misses `spec.index.targetRecall`.",
    )


class ReindexRequest(ApiModel):
    """What is to become of the generation that a rebuild ends with."""

    activate: bool = Field(
        default=False,
        description="Activate it when it is built, unless its measured recall misses `spec.index.targetRecall`.",
    )


class ShadowRequest(ApiModel):
    """How a candidate is shown to live searches. What is left out is as `spec.reindex.gate.shadow` has it, or by default."""

    share: float | None = Field(
        default=None, ge=0.001, le=1, description="Share of the searches that is asked of both generations."
    )
    min_queries: int | None = Field(default=None, ge=10, le=10_000, description="Searches that are enough.")
    for_minutes: int | None = Field(
        default=None, ge=1, le=10_080, description="Longest wait for them in minutes."
    )
    min_overlap: float | None = Field(
        default=None, ge=0, le=1, description="Least mean share of the hits that the candidate has, too."
    )


class JobLineView(BaseModel):
    """A line of a job's log."""

    number: int = Field(description="Grows from line to line; `after` asks for what comes behind it.")
    told_at: dt.datetime = Field(description="When it was told.")
    line: str = Field(description="What the job does now, or what came in its way.")


class QuarantineView(BaseModel):
    """An image whose content cannot be read or decoded, so that nothing can be made of it."""

    image_id: uuid.UUID = Field(description="The image.")
    reason: str = Field(description="Type of the problem, as in problem documents.")
    detail: str = Field(description="What is wrong with it.")
    job_id: uuid.UUID = Field(description="The job that met it.")
    noted_at: dt.datetime = Field(description="When.")


class JobView(BaseModel):
    """Background work for an index."""

    job_id: uuid.UUID = Field(description="Names the job.")
    kind: str = Field(
        description="What is done: `build` builds a generation; `reindex` first makes what images lack from their "
        "originals; `compare` measures one generation against another; `shadow` has a candidate answer "
        "live searches; `ingest` takes pictures in; `check` compares all "
        "parts of the index; `rerank-trial` measures whether reranking helps."
    )
    state: Literal["queued", "running", "paused", "done", "failed", "cancelled"] = Field(
        description="Where it stands."
    )
    activate: bool = Field(
        default=False,
        description="Whether what it builds is to be served: one of those who asked for it wants that.",
    )
    phase: str = Field(description="What it is doing; while it is queued, what it waits for.")
    done: int = Field(description="How much of the phase is done.")
    total: int = Field(description="Of how much; 0 when that is not known.")
    result: dict[str, Any] | None = Field(description="What came of it.")
    problem: str | None = Field(description="Why it failed.")
    requested_at: dt.datetime = Field(description="When it was asked for.")
    started_at: dt.datetime | None = Field(description="When it was first begun.")
    ended_at: dt.datetime | None = Field(description="When it ended.")


class GenerationView(BaseModel):
    """An immutable snapshot of an index."""

    generation: str = Field(description="Its id: equal content has equal ids.")
    state: Literal["ready", "preparing", "active", "kept", "failed", "retired", "gone"] = Field(
        description="`ready` to be activated; `preparing`: shards load it; `active`; `kept` for a rollback; `failed`; "
        "`retired`: no longer loaded; `gone`: its files are deleted."
    )
    fingerprint: str = Field(description="Fingerprint of the encoder its vectors come from.")
    images: int = Field(description="Images it was built from.")
    shards: int = Field(description="Shards it was built for; it can be served with any number.")
    bytes: int = Field(description="Size of its files.")
    families: list[str] = Field(description="Index families of its shards.")
    recall: dict[str, Any] = Field(
        description="Measured recall@10 (`recall`), the one asked for (`target`), and whether it is met (`met`)."
    )
    curves: list[dict[str, Any]] = Field(
        default=[],
        description="For each shard what was measured: recall and latency by effort, and the effort chosen.",
    )
    created_at: dt.datetime = Field(description="When it was proposed.")
    activated_at: dt.datetime | None = Field(description="When it was last made active.")
    problem: str | None = Field(
        default=None, description="Why it could not be activated, or why the quality gate refused it."
    )
    gate: GateReport | None = Field(
        default=None, description="What the quality gate measured; null: it was not judged."
    )
    shadow: ShadowReport | None = Field(
        default=None,
        description="How it answered live searches beside the active generation; null: it never did.",
    )
