"""An image on its way in: decoded and encoded, its bytes stored, then its row: acknowledged once both are durable."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from visualindex.api.images import BatchItem, BatchResult, EmbeddingState, ImageFields, ImageWritten
from visualindex.catalog import (
    AlreadyAnswered,
    Idempotency,
    ImageWrite,
    LacksVectorError,
    Origin,
    Written,
)
from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.fields import check_metadata, image_id_of
from visualindex.ingesting.writes import write_of
from visualindex.objectstore import original_key
from visualindex_serving.deadlines import monotonic, within
from visualindex_serving.encoder_in_use import EncoderInUse
from visualindex_serving.hashing import sha256
from visualindex_serving.index_service import IndexService
from visualindex_serving.originals import check_image_bytes
from visualindex_serving.visibility import Filter, outside, passes, visible
from visualindex_serving.vision import Seen

_BATCH_WORKERS = 4

_Restore = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class RequestKey:
    """A caller's idempotency key, bound to who uses it on which call and to what is written (32-byte digest)."""

    scope: str
    key: str
    digest: bytes


@dataclass(frozen=True)
class Incoming:
    """One image to store: its fields and its bytes, or the URL they come from. `beside` as in `ImageWrite`."""

    fields: ImageFields
    data: bytes | None
    image_url: str | None = None
    beside: bool = False


@dataclass(frozen=True)
class Ready:
    """An image that only its row is missing of; `restore` stores its original again."""

    write: ImageWrite
    restore: _Restore


Outcome = Ready | ProblemError


class _Budget:
    """How many bytes of pictures a write may hold at a time; once it is spent nothing more is fetched."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit

    def check(self) -> None:
        """Raise ProblemError REQUEST_TOO_LARGE once it is spent."""
        if self._left <= 0:
            detail = f"The pictures of the batch have more than {self._limit} bytes (limits.requestBytes); send it in parts."
            raise ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": self._limit})

    def take(self, size: int) -> None:
        """Spend `size` bytes. Raises ProblemError REQUEST_TOO_LARGE when less is left, and spends the rest."""
        if size > self._left:
            self._left = 0
            self.check()
        self._left -= size


async def write_image(
    service: IndexService,
    incoming: Incoming,
    deadline: float,
    mandatory: Filter = None,
    request: RequestKey | None = None,
    origins: Sequence[Origin] = (),
) -> ImageWritten:
    """Store one image. Raises ProblemError; when it does, nothing of the image is visible.

    `origins` are noted with it: the objects that it is.

    `mandatory` is the filter of the caller's key: FORBIDDEN when the image, or the one it replaces, is outside.
    """
    for last in (False, True):
        try:
            with service.encoders.writing() as encoders:
                return await _write_image(service, incoming, encoders, deadline, mandatory, request, origins)
        except LacksVectorError:
            if last:
                raise
            await service.encoders.refresh()
    raise AssertionError("the second round returns or raises")


async def _write_image(
    service: IndexService,
    incoming: Incoming,
    encoders: Sequence[EncoderInUse],
    deadline: float,
    mandatory: Filter,
    request: RequestKey | None,
    origins: Sequence[Origin],
) -> ImageWritten:
    budget = _Budget(service.resource.spec.limits.image_bytes)
    preparing = _prepare(service, incoming, encoders, deadline, mandatory, budget)
    ready = await within(deadline, "preparing the image", preparing)

    def respond(written: Sequence[Written]) -> dict[str, Any]:
        return acknowledged(service, ready.write.key, written[0]).model_dump(mode="json")

    put = service.catalog.put_images(
        service.name,
        [ready.write],
        _idempotency(request, respond),
        ensure_objects=ready.restore,
        origins=origins,
    )
    try:
        written = await within(deadline, "storing the image", put)
    except AlreadyAnswered as answered:
        return ImageWritten.model_validate(answered.response)
    service.tell_news()
    return acknowledged(service, ready.write.key, written[0])


async def write_batch(
    service: IndexService,
    incoming: Sequence[Incoming | ProblemError],
    deadline: float,
    mandatory: Filter = None,
    request: RequestKey | None = None,
) -> BatchResult:
    """Store many images in one transaction; a refused one does not hold the others back."""
    for last in (False, True):
        try:
            with service.encoders.writing() as encoders:
                return await _write_batch(service, incoming, encoders, deadline, mandatory, request)
        except LacksVectorError:
            if last:
                raise
            await service.encoders.refresh()
    raise AssertionError("the second round returns or raises")


async def _write_batch(
    service: IndexService,
    incoming: Sequence[Incoming | ProblemError],
    encoders: Sequence[EncoderInUse],
    deadline: float,
    mandatory: Filter,
    request: RequestKey | None,
) -> BatchResult:
    gate = asyncio.Semaphore(_BATCH_WORKERS)
    budget = _Budget(service.resource.spec.limits.request_bytes)

    async def prepare(one: Incoming | ProblemError) -> Outcome:
        if isinstance(one, ProblemError):
            return one
        async with gate:
            try:
                return await _prepare(service, one, encoders, deadline, mandatory, budget)
            except ProblemError as problem:
                return problem

    preparing = asyncio.gather(*(prepare(one) for one in incoming))
    outcomes = await within(deadline, "preparing the images", preparing)
    writes = _last_of_each([outcome.write for outcome in outcomes if isinstance(outcome, Ready)])
    if not writes:
        return _batch_result(service, outcomes, [])

    def respond(written: Sequence[Written]) -> dict[str, Any]:
        return _batch_result(service, outcomes, written).model_dump(mode="json")

    put = service.catalog.put_images(
        service.name, writes, _idempotency(request, respond), ensure_objects=_restore_any(outcomes)
    )
    try:
        written = await within(deadline, "storing the images", put)
    except AlreadyAnswered as answered:
        return BatchResult.model_validate(answered.response)
    service.tell_news()
    return _batch_result(service, outcomes, written)


def _idempotency(
    request: RequestKey | None, respond: Callable[[Sequence[Written]], dict[str, Any]]
) -> Idempotency[Written] | None:
    if request is None:
        return None
    return Idempotency(request.scope, request.key, request.digest, respond)


def _last_of_each(writes: list[ImageWrite]) -> list[ImageWrite]:
    """Of several writes of one image in a batch the last one counts, as if they had come one by one."""
    return list({write.image_id: write for write in writes}.values())


def _restore_any(outcomes: Sequence[Outcome]) -> _Restore:
    by_digest = {o.write.content_digest: o.restore for o in outcomes if isinstance(o, Ready)}

    async def restore(digest: bytes) -> None:
        await by_digest[digest](digest)

    return restore


def _batch_result(
    service: IndexService, outcomes: Sequence[Outcome], written: Sequence[Written]
) -> BatchResult:
    by_id = {one.image_id: one for one in written}
    items = []
    for position, outcome in enumerate(outcomes):
        if isinstance(outcome, ProblemError):
            items.append(BatchItem(position=position, problem=outcome.document()))
        else:
            done = acknowledged(service, outcome.write.key, by_id[outcome.write.image_id])
            items.append(BatchItem(position=position, written=done))
    failed = sum(item.problem is not None for item in items)
    return BatchResult(succeeded=len(items) - failed, failed=failed, items=items)


async def _prepare(
    service: IndexService,
    incoming: Incoming,
    encoders: Sequence[EncoderInUse],
    deadline: float,
    mandatory: Filter,
    budget: _Budget,
) -> Ready:
    fields = incoming.fields
    check_metadata(service.resource.spec, fields.metadata)
    image_id = image_id_of(service.name, fields)
    await _check_reach(service, image_id, fields, mandatory)
    data = await _bytes(service, incoming, deadline, budget)
    seen, *others = await _seen(data, encoders, deadline)
    digest = await sha256(data)
    await _store(service, digest, data, seen)

    async def restore(_: bytes) -> None:
        await _store(service, digest, data, seen)

    by = list(zip(encoders, (seen, *others), strict=True))
    write = _write(image_id, fields, digest, len(data), by, beside=incoming.beside)
    return Ready(write, restore)


async def _seen(data: bytes, encoders: Sequence[EncoderInUse], deadline: float) -> list[Seen]:
    """The picture as each of the encoders sees it; the first finds its colours as well."""
    looking = [
        one.vision.see(data, box=None, deadline=deadline, colours=place == 0)
        for place, one in enumerate(encoders)
    ]
    return [await looking[0]] if len(looking) == 1 else list(await asyncio.gather(*looking))


async def _bytes(service: IndexService, incoming: Incoming, deadline: float, budget: _Budget) -> bytes:
    if incoming.data is not None:
        check_image_bytes(service, incoming.data)
        return incoming.data
    assert incoming.image_url is not None  # noqa: S101 - whoever makes an Incoming gives one of the two
    budget.check()
    data = (await service.fetcher.fetch(incoming.image_url, deadline=monotonic(deadline))).data
    budget.take(len(data))
    return data


async def _check_reach(
    service: IndexService, image_id: uuid.UUID, fields: ImageFields, mandatory: Filter
) -> None:
    """A key with a filter writes only what it could see, and replaces only what it can see."""
    if mandatory is None:
        return
    if not passes(mandatory, key=fields.key, category=fields.category, metadata=fields.metadata):
        raise outside("The image would lie")
    earlier = await service.catalog.get_images(service.name, [image_id])
    if image_id in earlier and not visible(mandatory, earlier[image_id]):
        raise outside("The image of that id or key lies")


async def _store(service: IndexService, digest: bytes, data: bytes, seen: Seen) -> None:
    """Put the original; its key is its content's address, so a repeat changes nothing."""
    assert seen.decoded is not None  # noqa: S101 - ingest always decodes
    media_type = seen.decoded.info.media_type
    await service.store.put(original_key(service.name, digest), data, content_type=media_type)


def _write(
    image_id: uuid.UUID,
    fields: ImageFields,
    digest: bytes,
    size: int,
    by: Sequence[tuple[EncoderInUse, Seen]],
    *,
    beside: bool,
) -> ImageWrite:
    decoded = by[0][1].decoded
    assert decoded is not None  # noqa: S101 - ingest always decodes
    vectors = {encoder.fingerprint: seen.vector for encoder, seen in by}
    patches = {
        name: packed
        for encoder, seen in by
        for name, packed in encoder.reranking.packed(seen.patches).items()
    }
    return write_of(image_id, fields, digest, size, decoded, vectors, patches, beside=beside)


def acknowledged(service: IndexService, key: str | None, written: Written) -> ImageWritten:
    """The acknowledgement of a stored image."""
    state = EmbeddingState(state="stored", fingerprint=service.fingerprint, dimension=service.dimension)
    return ImageWritten(
        image_id=written.image_id, key=key, created=written.created, embedding=state, token=str(written.token)
    )
