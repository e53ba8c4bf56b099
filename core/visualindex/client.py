"""The HTTP client: what a program in Python, and the command line, use to talk to a VisualIndex service.

Calls are described once as values; `Client` sends them blocking and `AsyncClient` on an event loop. Nearly every call is
safe to repeat (writes carry an idempotency key), so both repeat on 503 and on broken connections, a bounded number of
times; what is not says so.
"""

import email.utils
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from visualindex.api.checks import READ_SHARE, CheckRequest, CheckView
from visualindex.api.gate import GateReport
from visualindex.api.generations import (
    ActivateGenerationRequest,
    ActivateRequest,
    BuildRequest,
    GenerationView,
    JobLineView,
    JobView,
    QuarantineView,
    ReindexRequest,
    ShadowRequest,
)
from visualindex.api.images import (
    ImageChanged,
    ImageList,
    ImagePatch,
    ImageRequest,
    ImageView,
    ImageWritten,
    IndexView,
)
from visualindex.api.ingesting import IngestRequest
from visualindex.api.schedules import ScheduleView
from visualindex.api.search import SearchRequest, SearchResponse
from visualindex.errors import TYPE_PREFIX, ProblemError, ProblemType

DEFAULT_URL = "http://127.0.0.1:8000"
_BEYOND_WAIT_S = 30.0
_ANY_SHADOW = ShadowRequest()  # as the spec has it
LONGEST_WAIT_S = 30.0
"""Longest pause before a repeat, whatever `Retry-After` asks for."""

T = TypeVar("T")

_BY_SLUG = {kind.value.slug: kind for kind in ProblemType}
# For answers that are no problem documents, which the gateway never gives: a proxy in front of it failed. Serve's
# HAProxy says 500 for its own 502 and 503.
_BY_STATUS = {
    401: ProblemType.UNAUTHENTICATED,
    403: ProblemType.FORBIDDEN,
    404: ProblemType.NOT_FOUND,
    413: ProblemType.REQUEST_TOO_LARGE,
    500: ProblemType.UNAVAILABLE,
    502: ProblemType.UNAVAILABLE,
    503: ProblemType.UNAVAILABLE,
    504: ProblemType.DEADLINE_EXCEEDED,
}
_TRANSIENT = (ProblemType.OVERLOADED, ProblemType.UNAVAILABLE, ProblemType.IDEMPOTENCY_IN_PROGRESS)
_BROKEN = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)
_backoff = wait_exponential(multiplier=0.25, max=8.0) + wait_random(0.0, 0.25)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and how its answer is read."""

    method: str
    path: str
    read: Callable[[bytes], T]
    params: dict[str, Any] = field(default_factory=dict)
    body: BaseModel | None = None
    image: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    """Its own limit where that is longer than the client's."""
    repeatable: bool = True

    def content(self) -> dict[str, Any]:
        """The body as arguments of httpx: JSON, or a form with the picture beside it."""
        if self.body is None:
            return {}
        document = self.body.model_dump_json(exclude_unset=True).encode()
        if self.image is None:
            return {"content": document, "headers": {**self.headers, "Content-Type": "application/json"}}
        parts = {
            "image": ("image", self.image, "application/octet-stream"),
            "request": (None, document, "application/json"),
        }
        return {"files": parts, "headers": self.headers}


def search_call(request: SearchRequest, image: bytes | None) -> Call[SearchResponse]:
    """POST /api/search."""
    return Call("POST", "/api/search", _reader(SearchResponse), body=request, image=image)


def put_image_call(
    request: ImageRequest, image: bytes | None, idempotency_key: str | None
) -> Call[ImageWritten]:
    """POST /api/images; without a key of the caller's own, one is made, so that a repeat is the same write."""
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    reader = _reader(ImageWritten)
    return Call("POST", "/api/images", reader, body=request, image=image, headers=headers)


def get_image_call(image_id: uuid.UUID, index: str | None) -> Call[ImageView]:
    """GET /api/images/{image_id}."""
    return Call("GET", f"/api/images/{image_id}", _reader(ImageView), params=_given(index=index))


def patch_image_call(image_id: uuid.UUID, patch: ImagePatch, index: str | None) -> Call[ImageChanged]:
    """PATCH /api/images/{image_id}."""
    reader = _reader(ImageChanged)
    return Call("PATCH", f"/api/images/{image_id}", reader, params=_given(index=index), body=patch)


def delete_image_call(image_id: uuid.UUID, index: str | None) -> Call[ImageChanged]:
    """DELETE /api/images/{image_id}."""
    return Call("DELETE", f"/api/images/{image_id}", _reader(ImageChanged), params=_given(index=index))


def list_images_call(
    index: str | None, category: str | None, cursor: str | None, limit: int
) -> Call[ImageList]:
    """GET /api/images."""
    params = _given(index=index, category=category, cursor=cursor, limit=limit)
    return Call("GET", "/api/images", _reader(ImageList), params=params)


def list_indexes_call() -> Call[list[IndexView]]:
    """GET /api/indexes."""
    return Call("GET", "/api/indexes", TypeAdapter(list[IndexView]).validate_json)


def get_index_call(name: str) -> Call[IndexView]:
    """GET /api/indexes/{name}."""
    return Call("GET", _index_path(name), _reader(IndexView))


def list_generations_call(index: str) -> Call[list[GenerationView]]:
    """GET /api/indexes/{name}/generations."""
    reader = TypeAdapter(list[GenerationView]).validate_json
    return Call("GET", _index_path(index, "generations"), reader)


def get_generation_call(index: str, generation: str) -> Call[GenerationView]:
    """GET /api/indexes/{name}/generations/{generation}."""
    return Call("GET", _index_path(index, "generations", generation), _reader(GenerationView))


def reindex_call(index: str, activate: bool) -> Call[JobView]:
    """POST /api/indexes/{name}/reindex; a repeat hears of the job that is under way."""
    body = ReindexRequest(activate=activate)
    return Call("POST", _index_path(index, "reindex"), _reader(JobView), body=body)


def job_log_call(index: str, job_id: uuid.UUID, after: int) -> Call[list[JobLineView]]:
    """GET /api/indexes/{name}/jobs/{job_id}/log."""
    path = _index_path(index, "jobs", str(job_id), "log")
    return Call("GET", path, _reader(list[JobLineView]), params=_given(after=after))


def quarantine_call(index: str) -> Call[list[QuarantineView]]:
    """GET /api/indexes/{name}/quarantine."""
    return Call("GET", _index_path(index, "quarantine"), _reader(list[QuarantineView]))


def build_generation_call(index: str, activate: bool) -> Call[JobView]:
    """POST /api/indexes/{name}/generations; a repeat hears of the build that is under way."""
    body = BuildRequest(activate=activate)
    return Call("POST", _index_path(index, "generations"), _reader(JobView), body=body)


def get_comparison_call(index: str, generation: str, other: str) -> Call[GateReport]:
    """GET /api/indexes/{name}/generations/{generation}/compare/{other}."""
    path = _index_path(index, "generations", generation, "compare", other)
    return Call("GET", path, _reader(GateReport))


def compare_generations_call(index: str, generation: str, other: str) -> Call[JobView]:
    """POST /api/indexes/{name}/generations/{generation}/compare/{other}; a repeat hears of the job under way."""
    path = _index_path(index, "generations", generation, "compare", other)
    return Call("POST", path, _reader(JobView))


def shadow_generation_call(index: str, generation: str, asked: ShadowRequest) -> Call[JobView]:
    """POST /api/indexes/{name}/generations/{generation}/shadow; a repeat hears of the job under way."""
    path = _index_path(index, "generations", generation, "shadow")
    return Call("POST", path, _reader(JobView), body=asked)


def activate_generation_call(
    index: str, generation: str, wait_s: float, force: bool = False
) -> Call[GenerationView]:
    """POST /api/indexes/{name}/generations/{generation}/activate."""
    path = _index_path(index, "generations", generation, "activate")
    asked = _activating(path, wait_s)
    return replace(asked, body=ActivateGenerationRequest(wait_s=wait_s, force=True)) if force else asked


def roll_back_call(index: str, wait_s: float) -> Call[GenerationView]:
    """POST /api/indexes/{name}/rollback. Repeated after it was done it would roll forward again: it is sent once."""
    return replace(_activating(_index_path(index, "rollback"), wait_s), repeatable=False)


def _activating(path: str, wait_s: float) -> Call[GenerationView]:
    body = ActivateRequest(wait_s=wait_s)
    return Call("POST", path, _reader(GenerationView), body=body, timeout_s=wait_s + _BEYOND_WAIT_S)


def discard_generation_call(index: str, generation: str) -> Call[None]:
    """DELETE /api/indexes/{name}/generations/{generation}."""
    return Call("DELETE", _index_path(index, "generations", generation), lambda _: None)


def check_index_call(index: str, asked: CheckRequest) -> Call[JobView]:
    """POST /api/indexes/{name}/check; a repeat hears of the check that is under way."""
    return Call("POST", _index_path(index, "check"), _reader(JobView), body=asked)


def last_check_call(index: str) -> Call[CheckView]:
    """GET /api/indexes/{name}/check."""
    return Call("GET", _index_path(index, "check"), _reader(CheckView))


def list_schedules_call(index: str) -> Call[list[ScheduleView]]:
    """GET /api/indexes/{name}/schedules."""
    return Call("GET", _index_path(index, "schedules"), TypeAdapter(list[ScheduleView]).validate_json)


def list_jobs_call(index: str) -> Call[list[JobView]]:
    """GET /api/indexes/{name}/jobs."""
    return Call("GET", _index_path(index, "jobs"), TypeAdapter(list[JobView]).validate_json)


def get_job_call(index: str, job_id: uuid.UUID) -> Call[JobView]:
    """GET /api/indexes/{name}/jobs/{job_id}."""
    return Call("GET", _index_path(index, "jobs", str(job_id)), _reader(JobView))


def cancel_job_call(index: str, job_id: uuid.UUID) -> Call[JobView]:
    """POST /api/indexes/{name}/jobs/{job_id}/cancel; sent once, for a job that was cancelled cannot be again."""
    return Call("POST", _index_path(index, "jobs", str(job_id), "cancel"), _reader(JobView), repeatable=False)


def pause_job_call(index: str, job_id: uuid.UUID) -> Call[JobView]:
    """POST /api/indexes/{name}/jobs/{job_id}/pause; sent once, for a paused job cannot be paused again."""
    return Call("POST", _index_path(index, "jobs", str(job_id), "pause"), _reader(JobView), repeatable=False)


def resume_job_call(index: str, job_id: uuid.UUID) -> Call[JobView]:
    """POST /api/indexes/{name}/jobs/{job_id}/resume; sent once, as a pause is."""
    return Call("POST", _index_path(index, "jobs", str(job_id), "resume"), _reader(JobView), repeatable=False)


def start_batch_call(request: IngestRequest) -> Call[JobView]:
    """POST /internal/index with sources; a repeat hears of the batch that is under way."""
    return Call("POST", "/internal/index", _reader(JobView), body=request)


def refused_call(index: str, job_id: uuid.UUID) -> Call[bytes]:
    """GET /api/indexes/{name}/jobs/{job_id}/refused: NDJSON."""
    return Call("GET", _index_path(index, "jobs", str(job_id), "refused"), bytes)


def _index_path(*parts: str) -> str:
    return "/".join(["/api/indexes", *(quote(part, safe="") for part in parts)])


def file_call(url: str, path: str) -> Call[bytes]:
    """GET of a path that a response of the service at `url` named: a thumbnail, an original.

    A service below a path names that path too, unless something in front of it takes it away.
    """
    base = urlsplit(url).path
    return Call("GET", path.removeprefix(base) if path.startswith(f"{base}/") else path, bytes)


class Client:
    """A blocking client. Every method raises ProblemError: the service's own, or UNAVAILABLE when it cannot be reached.

    `attempts` counts the first try; between tries it waits as `Retry-After` asks, at most 30 s.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        attempts: int = 5,
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, headers=_headers(api_key), timeout=timeout_s)
        self._attempts = attempts

    def search(self, request: SearchRequest, *, image: bytes | None = None) -> SearchResponse:
        """Search with an uploaded picture (`image`) or with what the request names."""
        return self._send(search_call(request, image))

    def put_image(
        self, request: ImageRequest, *, image: bytes | None = None, idempotency_key: str | None = None
    ) -> ImageWritten:
        """Store a picture given as bytes, or by the request's `image_url`."""
        return self._send(put_image_call(request, image, idempotency_key))

    def get_image(self, image_id: uuid.UUID, *, index: str | None = None) -> ImageView:
        """One image with the state of its vector."""
        return self._send(get_image_call(image_id, index))

    def patch_image(
        self, image_id: uuid.UUID, patch: ImagePatch, *, index: str | None = None
    ) -> ImageChanged:
        """Change an image's fields."""
        return self._send(patch_image_call(image_id, patch, index))

    def delete_image(self, image_id: uuid.UUID, *, index: str | None = None) -> ImageChanged:
        """Erase an image everywhere."""
        return self._send(delete_image_call(image_id, index))

    def list_images(
        self,
        *,
        index: str | None = None,
        category: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> ImageList:
        """One page of images, newest first."""
        return self._send(list_images_call(index, category, cursor, limit))

    def list_indexes(self) -> list[IndexView]:
        """The indexes that the key allows."""
        return self._send(list_indexes_call())

    def get_index(self, name: str) -> IndexView:
        """One index, with the recall curves of the generation it serves."""
        return self._send(get_index_call(name))

    def list_generations(self, index: str) -> list[GenerationView]:
        """The generations that are there, the newest first."""
        return self._send(list_generations_call(index))

    def get_generation(self, index: str, generation: str) -> GenerationView:
        """One generation, with the recall curve of each shard."""
        return self._send(get_generation_call(index, generation))

    def build_generation(self, index: str, *, activate: bool = False) -> JobView:
        """Build a generation in the background, or hear of the one that is being built."""
        return self._send(build_generation_call(index, activate))

    def get_comparison(self, index: str, generation: str, other: str) -> GateReport:
        """What was measured of a generation against another; ProblemError NOT_FOUND where nothing was."""
        return self._send(get_comparison_call(index, generation, other))

    def compare_generations(self, index: str, generation: str, other: str) -> JobView:
        """Measure a generation against another in the background; the job's result is the report."""
        return self._send(compare_generations_call(index, generation, other))

    def shadow_generation(self, index: str, generation: str, asked: ShadowRequest = _ANY_SHADOW) -> JobView:
        """Have a candidate answer live searches beside the active one in the background; the job's result is the report."""
        return self._send(shadow_generation_call(index, generation, asked))

    def activate_generation(
        self, index: str, generation: str, *, wait_s: float = 30.0, force: bool = False
    ) -> GenerationView:
        """Activate it; its state is `active`, or `preparing` when the shards took longer than `wait_s`.

        `force` overrules the quality gate.
        """
        return self._send(activate_generation_call(index, generation, wait_s, force))

    def roll_back(self, index: str, *, wait_s: float = 30.0) -> GenerationView:
        """Activate the generation that was active before."""
        return self._send(roll_back_call(index, wait_s))

    def discard_generation(self, index: str, generation: str) -> None:
        """Discard a generation that is not active."""
        self._send(discard_generation_call(index, generation))

    def check_index(
        self, index: str, *, repair: bool = False, vectors: bool = True, originals_share: float = READ_SHARE
    ) -> JobView:
        """Check its consistency in the background, or hear of the check that is under way."""
        asked = CheckRequest(repair=repair, vectors=vectors, originals_share=originals_share)
        return self._send(check_index_call(index, asked))

    def last_check(self, index: str) -> CheckView:
        """What the last check found."""
        return self._send(last_check_call(index))

    def list_schedules(self, index: str) -> list[ScheduleView]:
        """Its schedules, with their next times and what became of the last ones."""
        return self._send(list_schedules_call(index))

    def list_jobs(self, index: str) -> list[JobView]:
        """The latest background jobs, the newest first."""
        return self._send(list_jobs_call(index))

    def get_job(self, index: str, job_id: uuid.UUID) -> JobView:
        """One background job."""
        return self._send(get_job_call(index, job_id))

    def reindex(self, index: str, *, activate: bool = False) -> JobView:
        """Make what images lack from their originals and build a generation, in the background."""
        return self._send(reindex_call(index, activate))

    def job_log(self, index: str, job_id: uuid.UUID, *, after: int = 0) -> list[JobLineView]:
        """What a job told of itself beyond line `after`, the oldest first."""
        return self._send(job_log_call(index, job_id, after))

    def quarantine(self, index: str) -> list[QuarantineView]:
        """The images of which nothing can be made, the latest first."""
        return self._send(quarantine_call(index))

    def cancel_job(self, index: str, job_id: uuid.UUID) -> JobView:
        """Cancel a job that has not ended."""
        return self._send(cancel_job_call(index, job_id))

    def pause_job(self, index: str, job_id: uuid.UUID) -> JobView:
        """Pause a job that waits or runs."""
        return self._send(pause_job_call(index, job_id))

    def resume_job(self, index: str, job_id: uuid.UUID) -> JobView:
        """Have a job go on that was paused or that failed."""
        return self._send(resume_job_call(index, job_id))

    def start_batch(self, request: IngestRequest) -> JobView:
        """Have the service take pictures in by itself, or hear of the same batch that is under way."""
        return self._send(start_batch_call(request))

    def refused(self, index: str, job_id: uuid.UUID) -> bytes:
        """What an ingest refused so far: a JSON object a line, with `place`, `key`, `type` and `reason`."""
        return self._send(refused_call(index, job_id))

    def file(self, path: str) -> bytes:
        """The bytes behind a path of a response, such as a thumbnail."""
        return self._send(file_call(self.url, path))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: Call[T]) -> T:
        def once() -> T:
            response = self._http.request(
                call.method,
                call.path,
                params=call.params,
                timeout=_limit(call, self._http.timeout),
                **call.content(),
            )
            return _answer(call, response)

        try:
            answer: T = _retrying(Retrying, self._attempts if call.repeatable else 1)(once)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from error
        return answer


class AsyncClient:
    """The same client on an event loop; see `Client`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        attempts: int = 5,
        connections: int = 32,
    ) -> None:
        self.url = url.rstrip("/")
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(
            base_url=self.url, headers=_headers(api_key), timeout=timeout_s, limits=limits
        )
        self._attempts = attempts

    async def search(self, request: SearchRequest, *, image: bytes | None = None) -> SearchResponse:
        """Search with an uploaded picture (`image`) or with what the request names."""
        return await self._send(search_call(request, image))

    async def put_image(
        self, request: ImageRequest, *, image: bytes | None = None, idempotency_key: str | None = None
    ) -> ImageWritten:
        """Store a picture given as bytes, or by the request's `image_url`."""
        return await self._send(put_image_call(request, image, idempotency_key))

    async def get_image(self, image_id: uuid.UUID, *, index: str | None = None) -> ImageView:
        """One image with the state of its vector."""
        return await self._send(get_image_call(image_id, index))

    async def patch_image(
        self, image_id: uuid.UUID, patch: ImagePatch, *, index: str | None = None
    ) -> ImageChanged:
        """Change an image's fields."""
        return await self._send(patch_image_call(image_id, patch, index))

    async def delete_image(self, image_id: uuid.UUID, *, index: str | None = None) -> ImageChanged:
        """Erase an image everywhere."""
        return await self._send(delete_image_call(image_id, index))

    async def list_images(
        self,
        *,
        index: str | None = None,
        category: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> ImageList:
        """One page of images, newest first."""
        return await self._send(list_images_call(index, category, cursor, limit))

    async def list_indexes(self) -> list[IndexView]:
        """The indexes that the key allows."""
        return await self._send(list_indexes_call())

    async def get_index(self, name: str) -> IndexView:
        """One index, with the recall curves of the generation it serves."""
        return await self._send(get_index_call(name))

    async def list_generations(self, index: str) -> list[GenerationView]:
        """The generations that are there, the newest first."""
        return await self._send(list_generations_call(index))

    async def get_generation(self, index: str, generation: str) -> GenerationView:
        """One generation, with the recall curve of each shard."""
        return await self._send(get_generation_call(index, generation))

    async def build_generation(self, index: str, *, activate: bool = False) -> JobView:
        """Build a generation in the background, or hear of the one that is being built."""
        return await self._send(build_generation_call(index, activate))

    async def get_comparison(self, index: str, generation: str, other: str) -> GateReport:
        """What was measured of a generation against another; ProblemError NOT_FOUND where nothing was."""
        return await self._send(get_comparison_call(index, generation, other))

    async def compare_generations(self, index: str, generation: str, other: str) -> JobView:
        """Measure a generation against another in the background; the job's result is the report."""
        return await self._send(compare_generations_call(index, generation, other))

    async def shadow_generation(
        self, index: str, generation: str, asked: ShadowRequest = _ANY_SHADOW
    ) -> JobView:
        """Have a candidate answer live searches beside the active one in the background; the job's result is the report."""
        return await self._send(shadow_generation_call(index, generation, asked))

    async def activate_generation(
        self, index: str, generation: str, *, wait_s: float = 30.0, force: bool = False
    ) -> GenerationView:
        """Activate it; its state is `active`, or `preparing` when the shards took longer than `wait_s`.

        `force` overrules the quality gate.
        """
        return await self._send(activate_generation_call(index, generation, wait_s, force))

    async def roll_back(self, index: str, *, wait_s: float = 30.0) -> GenerationView:
        """Activate the generation that was active before."""
        return await self._send(roll_back_call(index, wait_s))

    async def discard_generation(self, index: str, generation: str) -> None:
        """Discard a generation that is not active."""
        await self._send(discard_generation_call(index, generation))

    async def check_index(
        self, index: str, *, repair: bool = False, vectors: bool = True, originals_share: float = READ_SHARE
    ) -> JobView:
        """Check its consistency in the background, or hear of the check that is under way."""
        asked = CheckRequest(repair=repair, vectors=vectors, originals_share=originals_share)
        return await self._send(check_index_call(index, asked))

    async def last_check(self, index: str) -> CheckView:
        """What the last check found."""
        return await self._send(last_check_call(index))

    async def list_schedules(self, index: str) -> list[ScheduleView]:
        """Its schedules, with their next times and what became of the last ones."""
        return await self._send(list_schedules_call(index))

    async def list_jobs(self, index: str) -> list[JobView]:
        """The latest background jobs, the newest first."""
        return await self._send(list_jobs_call(index))

    async def get_job(self, index: str, job_id: uuid.UUID) -> JobView:
        """One background job."""
        return await self._send(get_job_call(index, job_id))

    async def reindex(self, index: str, *, activate: bool = False) -> JobView:
        """Make what images lack from their originals and build a generation, in the background."""
        return await self._send(reindex_call(index, activate))

    async def job_log(self, index: str, job_id: uuid.UUID, *, after: int = 0) -> list[JobLineView]:
        """What a job told of itself beyond line `after`, the oldest first."""
        return await self._send(job_log_call(index, job_id, after))

    async def quarantine(self, index: str) -> list[QuarantineView]:
        """The images of which nothing can be made, the latest first."""
        return await self._send(quarantine_call(index))

    async def cancel_job(self, index: str, job_id: uuid.UUID) -> JobView:
        """Cancel a job that has not ended."""
        return await self._send(cancel_job_call(index, job_id))

    async def pause_job(self, index: str, job_id: uuid.UUID) -> JobView:
        """Pause a job that waits or runs."""
        return await self._send(pause_job_call(index, job_id))

    async def resume_job(self, index: str, job_id: uuid.UUID) -> JobView:
        """Have a job go on that was paused or that failed."""
        return await self._send(resume_job_call(index, job_id))

    async def start_batch(self, request: IngestRequest) -> JobView:
        """Have the service take pictures in by itself, or hear of the same batch that is under way."""
        return await self._send(start_batch_call(request))

    async def refused(self, index: str, job_id: uuid.UUID) -> bytes:
        """What an ingest refused so far: a JSON object a line, with `place`, `key`, `type` and `reason`."""
        return await self._send(refused_call(index, job_id))

    async def file(self, path: str) -> bytes:
        """The bytes behind a path of a response, such as a thumbnail."""
        return await self._send(file_call(self.url, path))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, call: Call[T]) -> T:
        async def once() -> T:
            response = await self._http.request(
                call.method,
                call.path,
                params=call.params,
                timeout=_limit(call, self._http.timeout),
                **call.content(),
            )
            return _answer(call, response)

        try:
            answer: T = await _retrying(AsyncRetrying, self._attempts if call.repeatable else 1)(once)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from error
        return answer


def _limit(call: Call[Any], usual: httpx.Timeout) -> httpx.Timeout:
    """The longer of the client's limit and the call's own."""
    if call.timeout_s is None or usual.read is None or usual.read >= call.timeout_s:
        return usual
    limits = {**usual.as_dict(), "read": call.timeout_s}
    return httpx.Timeout(**limits)


def _reader(model: type[T]) -> Callable[[bytes], T]:
    return TypeAdapter(model).validate_json


def _given(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _retrying(kind: Any, attempts: int) -> Any:
    return kind(
        stop=stop_after_attempt(attempts), wait=_pause, retry=retry_if_exception(_may_heal), reraise=True
    )


def _may_heal(error: BaseException) -> bool:
    return isinstance(error, _BROKEN) or (isinstance(error, ProblemError) and error.type in _TRANSIENT)


def _pause(state: RetryCallState) -> float:
    """Seconds until the next try: what the service asked for, or exponentially more with some chance in it."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, ProblemError) else None
    return min(LONGEST_WAIT_S, max(asked or 0.0, _backoff(state)))


def _answer(call: Call[T], response: httpx.Response) -> T:
    if not response.is_success:
        raise problem_of(response)
    try:
        return call.read(response.content)
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, item["loc"])) or "the body" for item in error.errors()}))
        detail = (
            f"{response.request.url} answered what this client does not understand ({fields}): is it a VisualIndex "
            "service, of the same release?"
        )
        raise ProblemError(ProblemType.INTERNAL, detail) from error


def problem_of(response: httpx.Response) -> ProblemError:
    """The problem a response states; an answer that is none of ours (a proxy's) becomes the nearest type."""
    document = _problem_document(response)
    slug = str(document.pop("type", "")).removeprefix(TYPE_PREFIX)
    kind = _BY_SLUG.get(slug) or _BY_STATUS.get(response.status_code, ProblemType.INTERNAL)
    detail = document.pop("detail", None) or f"{response.request.url} answered {response.status_code}"
    extra = {name: value for name, value in document.items() if name not in ("title", "status")}
    return ProblemError(kind, str(detail), retry_after_s=_retry_after(response), extra=extra)


def _problem_document(response: httpx.Response) -> dict[str, Any]:
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(response: httpx.Response) -> float | None:
    """`Retry-After` in seconds, which HTTP allows as a number or as a date."""
    value = response.headers.get("retry-after", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _unreachable(url: str, error: httpx.HTTPError) -> ProblemError:
    if isinstance(error, httpx.TimeoutException):
        return ProblemError(
            ProblemType.DEADLINE_EXCEEDED, f"{url} did not answer in time ({type(error).__name__})"
        )
    reason = str(error) or type(error).__name__
    detail = f"{url} cannot be reached ({reason}): is the service up? `visualindex up` starts one here"
    return ProblemError(ProblemType.UNAVAILABLE, detail)
