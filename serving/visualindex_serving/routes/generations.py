"""The generations of an index: list, build, activate, roll back, discard."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from visualindex.api.gate import GateReport, ShadowReport
from visualindex.api.generations import (
    ActivateGenerationRequest,
    ActivateRequest,
    BuildRequest,
    GenerationView,
    JobView,
    ShadowRequest,
)
from visualindex.api.search import IndexName
from visualindex.catalog import BUILD, GenerationRecord, JobRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.ledger import refused_lines
from visualindex_serving import openapi
from visualindex_serving.activation import activate, roll_back
from visualindex_serving.bodies import NDJSON, read_body
from visualindex_serving.comparing import compared, request_comparison, request_shadow
from visualindex_serving.index_service import IndexService
from visualindex_serving.queueing import waits_for
from visualindex_serving.service import service_of

router = APIRouter(tags=["generations"], prefix="/api/indexes/{name}")

Name = Annotated[IndexName, Path(description="The index.")]
Generation = Annotated[str, Path(description="The generation.", pattern=r"^[0-9a-f]{16}$")]
Other = Annotated[str, Path(description="The generation to compare with.", pattern=r"^[0-9a-f]{16}$")]
JobId = Annotated[uuid.UUID, Path(description="The job.")]

_BODY = openapi.body(
    {
        "application/json": {
            "schema": openapi.ref(ActivateRequest),
            "examples": {"wait": {"value": {"wait_s": 60}}},
        }
    },
)
_ACTIVATE_BODY = openapi.body(
    {
        "application/json": {
            "schema": openapi.ref(ActivateGenerationRequest),
            "examples": {
                "wait": {"value": {"wait_s": 60}},
                "overrule the gate": {"value": {"force": True}},
            },
        }
    },
)
_BUILD_BODY = openapi.body(
    {
        "application/json": {
            "schema": openapi.ref(BuildRequest),
            "examples": {"serve it": {"value": {"activate": True}}},
        }
    },
)
_SHADOW_BODY = openapi.body(
    {
        "application/json": {
            "schema": openapi.ref(ShadowRequest),
            "examples": {"a tenth of the searches": {"value": {"share": 0.1, "min_queries": 500}}},
        }
    },
)
_PROBLEMS = (ProblemType.INDEX_NOT_FOUND, ProblemType.NOT_FOUND, ProblemType.CONFLICT)


async def _admin(request: Request, name: str) -> IndexService:
    index, _ = (await service_of(request).caller(request, "admin")).index(name)
    return index


@router.get("/generations", responses=openapi.problem_responses(*_PROBLEMS))
async def list_generations(request: Request, name: Name) -> list[GenerationView]:
    """The generations that are there, the newest first."""
    index = await _admin(request, name)
    return [view(record) for record in await index.catalog.list_generations(index.name)]


@router.post(
    "/generations",
    status_code=202,
    openapi_extra=_BUILD_BODY,
    responses=openapi.problem_responses(*_PROBLEMS),
)
async def post_generation(request: Request, name: Name) -> JobView:
    """Build a generation of everything the index has now, in the background.

    While one is built, that job is told, and activates what it builds as soon as one of those who asked for it wants that.
    """
    index = await _admin(request, name)
    asked = (await read_body(request, form=False)).read(BuildRequest)
    job, _ = await index.catalog.request_job(index.name, BUILD, {"activate": asked.activate})
    return job_view(job)


@router.get("/jobs", responses=openapi.problem_responses(*_PROBLEMS))
async def list_jobs(request: Request, name: Name) -> list[JobView]:
    """The latest background jobs, the newest first."""
    index = await _admin(request, name)
    return [job_view(job) for job in await index.catalog.list_jobs(index.name)]


@router.get("/jobs/{job_id}", responses=openapi.problem_responses(*_PROBLEMS))
async def get_job(request: Request, name: Name, job_id: JobId) -> JobView:
    """One background job and how far it is; of one that is queued, what it waits for."""
    caller = await service_of(request).caller(request, "admin")
    index, _ = caller.index(name)
    job = await index.catalog.get_job(index.name, job_id)
    if job.state != "queued":
        return job_view(job)
    known = {one.name for one in caller.indexes()}
    return job_view(job, waits_for(job, await index.catalog.jobs_at_work(), known))


@router.get(
    "/jobs/{job_id}/refused",
    response_class=Response,
    responses={
        200: {
            "description": "NDJSON: `place`, `key`, `type` and `reason` of each.",
            "content": {NDJSON[0]: {"schema": {"type": "string"}}},
        },
        **openapi.problem_responses(*_PROBLEMS),
    },
)
async def get_refused(request: Request, name: Name, job_id: JobId) -> Response:
    """Everything that an ingest has refused so far, with the reasons, one JSON object a line."""
    index = await _admin(request, name)
    await index.catalog.get_job(index.name, job_id)
    return StreamingResponse(refused_lines(index.store, index.name, job_id), media_type=NDJSON[0])


@router.post("/jobs/{job_id}/cancel", responses=openapi.problem_responses(*_PROBLEMS))
async def cancel_job(request: Request, name: Name, job_id: JobId) -> JobView:
    """Cancel a job that has not ended. What it has finished stays: images it wrote, a generation it published."""
    index = await _admin(request, name)
    return job_view(await index.catalog.cancel_job(index.name, job_id))


@router.post("/jobs/{job_id}/pause", responses=openapi.problem_responses(*_PROBLEMS))
async def pause_job(request: Request, name: Name, job_id: JobId) -> JobView:
    """Pause a job that waits or runs: it stops within seconds and keeps what it has done."""
    index = await _admin(request, name)
    return job_view(await index.catalog.pause_job(index.name, job_id))


@router.post("/jobs/{job_id}/resume", responses=openapi.problem_responses(*_PROBLEMS))
async def resume_job(request: Request, name: Name, job_id: JobId) -> JobView:
    """Have a job go on that was paused, or that failed: an ingest does so where it stopped, others begin again."""
    index = await _admin(request, name)
    return job_view(await index.catalog.resume_job(index.name, job_id))


@router.get("/generations/{generation}", responses=openapi.problem_responses(*_PROBLEMS))
async def get_generation(request: Request, name: Name, generation: Generation) -> GenerationView:
    """One generation, with the recall curve of each shard."""
    index = await _admin(request, name)
    return view(await index.catalog.get_generation(index.name, generation), curves=True)


@router.post(
    "/generations/{generation}/activate",
    openapi_extra=_ACTIVATE_BODY,
    responses={
        202: {
            "model": GenerationView,
            "description": "Shards are still loading it; it becomes active by itself.",
        },
        **openapi.problem_responses(*_PROBLEMS),
    },
)
async def post_activate(
    request: Request, response: Response, name: Name, generation: Generation
) -> GenerationView:
    """Make it the active one as soon as every shard has loaded it.

    One that the quality gate refused, or has not judged while it is to `enforce`, by `force` only.
    """
    index = await _admin(request, name)
    _refuse_when_pinned(index, generation)
    asked = (await read_body(request, form=False)).read(ActivateGenerationRequest)
    shards = index.resource.spec.index.shards
    how = {"force": asked.force, "judged": index.resource.spec.reindex.gate.mode == "enforce"}
    record = await activate(index.catalog, index.name, generation, shards, asked.wait_s, **how)
    return await _activated(index, record, response)


@router.post(
    "/rollback",
    openapi_extra=_BODY,
    responses={
        202: {
            "model": GenerationView,
            "description": "Shards are loading it again; it becomes active by itself.",
        },
        **openapi.problem_responses(*_PROBLEMS),
    },
)
async def post_rollback(request: Request, response: Response, name: Name) -> GenerationView:
    """Make the generation active again that was active before. No write is lost: every generation follows them."""
    index = await _admin(request, name)
    _refuse_when_pinned(index, None)
    asked = (await read_body(request, form=False)).read(ActivateRequest)
    record = await roll_back(index.catalog, index.name, index.resource.spec.index.shards, asked.wait_s)
    return await _activated(index, record, response)


@router.get("/generations/{generation}/compare/{other}", responses=openapi.problem_responses(*_PROBLEMS))
async def get_comparison(request: Request, name: Name, generation: Generation, other: Other) -> GateReport:
    """What was measured of it against another one: by the quality gate, or when it was last asked for."""
    index = await _admin(request, name)
    return await compared(index.catalog, index.name, generation, other)


@router.post(
    "/generations/{generation}/compare/{other}",
    status_code=202,
    responses=openapi.problem_responses(*_PROBLEMS),
)
async def post_comparison(request: Request, name: Name, generation: Generation, other: Other) -> JobView:
    """Measure it against another one, in the background; the job's result is the report. Nothing else changes."""
    index = await _admin(request, name)
    return job_view(await request_comparison(index.catalog, index.name, generation, other))


@router.post(
    "/generations/{generation}/shadow",
    status_code=202,
    openapi_extra=_SHADOW_BODY,
    responses=openapi.problem_responses(*_PROBLEMS),
)
async def post_shadow(request: Request, name: Name, generation: Generation) -> JobView:
    """Have a candidate answer a share of the live searches beside the active one, unseen, in the background.

    The job's result is the report, which `shadow` of the generation has, too. Nothing else changes.
    """
    index = await _admin(request, name)
    asked = (await read_body(request, form=False)).read(ShadowRequest)
    return job_view(await request_shadow(index.catalog, index.resource, generation, asked))


@router.delete("/generations/{generation}", status_code=204, responses=openapi.problem_responses(*_PROBLEMS))
async def delete_generation(request: Request, name: Name, generation: Generation) -> Response:
    """Discard a generation that is not active: shards let go of it, and its files are deleted soon after."""
    index = await _admin(request, name)
    await index.catalog.discard_generation(index.name, generation)
    return Response(status_code=204)


async def _activated(index: IndexService, record: GenerationRecord, response: Response) -> GenerationView:
    if record.state == "active":
        await index.generations.refresh()
    else:
        response.status_code = 202
    return view(record)


def _refuse_when_pinned(index: IndexService, generation: str | None) -> None:
    pinned = index.resource.spec.generation
    if pinned is not None and pinned != generation:
        detail = (
            f"spec.generation pins {pinned}: change or remove it in the resource to serve another generation"
        )
        raise ProblemError(ProblemType.CONFLICT, detail)


def view(record: GenerationRecord, *, curves: bool = False) -> GenerationView:
    """A generation as callers see it."""
    manifest = record.manifest
    recall = dict(manifest.get("recall", {}))
    shards = recall.pop("shards", [])
    return GenerationView(
        generation=record.generation,
        state=record.state,
        fingerprint=record.fingerprint,
        images=sum(shard["images"] for shard in manifest["shards"]),
        shards=len(manifest["shards"]),
        bytes=sum(file["bytes"] for shard in manifest["shards"] for file in shard["files"]),
        families=manifest["parameters"].get("families", []),
        recall=recall,
        curves=shards if curves else [],
        created_at=record.created_at,
        activated_at=record.activated_at,
        problem=record.problem,
        gate=None if record.gate is None else GateReport.model_validate(record.gate),
        shadow=None if record.shadow is None else ShadowReport.model_validate(record.shadow),
    )


def job_view(job: JobRecord, waiting: str = "") -> JobView:
    """A job as callers see it; `waiting` is what one that is queued waits for, instead of how far it was."""
    queued = job.state == "queued"
    return JobView(
        job_id=job.job_id,
        kind=job.kind,
        state=job.state,
        activate=job.activates_since is not None,
        phase=waiting if queued else job.phase,
        done=0 if queued else job.done,
        total=0 if queued else job.total,
        result=dict(job.result) if job.result is not None else None,
        problem=job.problem,
        requested_at=job.requested_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
    )
