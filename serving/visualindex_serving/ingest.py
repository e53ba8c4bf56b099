"""An image on its way in: decoded and encoded, its bytes stored, then its row: acknowledged once both are durable."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from visualindex.api.images import BatchItem, BatchResult, EmbeddingState, ImageFields, ImageWritten
from visualindex.catalog import AlreadyAnswered, Idempotency, ImageWrite, Written
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import content_digest, image_id_for_key
from visualindex.objectstore import original_key, thumbnail_key
from visualindex_serving.deadlines import monotonic, within
from visualindex_serving.index_service import IndexService
from visualindex_serving.vision import Seen

_WHOLE_IMAGE = 0
_BATCH_WORKERS = 4


@dataclass(frozen=True)
class RequestKey:
    """A caller's idempotency key, bound to who uses it and to what is written."""

    scope: str
    key: str
    digest: bytes


@dataclass(frozen=True)
class Incoming:
    """One image to store: its fields and its bytes, or the URL they come from."""

    fields: ImageFields
    data: bytes | None
    image_url: str | None = None


async def write_image(
    service: IndexService, incoming: Incoming, deadline: float, request: RequestKey | None = None
) -> ImageWritten:
    """Store one image. Raises ProblemError; when it does, nothing of the image is visible."""
    prepared, restore = await within(deadline, "preparing the image", _prepare(service, incoming, deadline))

    def respond(written: Sequence[Written]) -> dict[str, Any]:
        return acknowledged(service, prepared.key, written[0]).model_dump(mode="json")

    idempotency = (
        None if request is None else Idempotency(request.scope, request.key, request.digest, respond)
    )
    put = service.catalog.put_images(service.name, [prepared], idempotency, ensure_objects=restore)
    try:
        written = await within(deadline, "storing the image", put)
    except AlreadyAnswered as answered:
        return ImageWritten.model_validate(answered.response)
    return acknowledged(service, prepared.key, written[0])


async def write_batch(service: IndexService, incoming: Sequence[Incoming], deadline: float) -> BatchResult:
    """Store many images in one transaction; a refused one does not hold the others back."""
    gate = asyncio.Semaphore(_BATCH_WORKERS)

    async def prepare(one: Incoming) -> tuple[ImageWrite, "_Restore"] | ProblemError:
        async with gate:
            try:
                return await _prepare(service, one, deadline)
            except ProblemError as problem:
                return problem

    outcomes = await within(
        deadline, "preparing the images", asyncio.gather(*(prepare(one) for one in incoming))
    )
    good = [outcome for outcome in outcomes if not isinstance(outcome, ProblemError)]
    writes = _last_of_each([write for write, _ in good])
    restore = _restore_any({write.content_digest: again for write, again in good})
    stored = (
        service.catalog.put_images(service.name, writes, ensure_objects=restore) if writes else _nothing()
    )
    written = {w.image_id: w for w in await within(deadline, "storing the images", stored)}
    return _batch_result(service, outcomes, written)


def _last_of_each(writes: list[ImageWrite]) -> list[ImageWrite]:
    """Of several writes of one image in a batch the last one counts, as if they had come one by one."""
    return list({write.image_id: write for write in writes}.values())


async def _nothing() -> list[Written]:
    return []


_Restore = Callable[[bytes], Awaitable[None]]


def _restore_any(by_digest: dict[bytes, _Restore]) -> _Restore:
    async def restore(digest: bytes) -> None:
        await by_digest[digest](digest)

    return restore


def _batch_result(
    service: IndexService,
    outcomes: Sequence[tuple[ImageWrite, _Restore] | ProblemError],
    written: dict[uuid.UUID, Written],
) -> BatchResult:
    items = []
    for position, outcome in enumerate(outcomes):
        if isinstance(outcome, ProblemError):
            items.append(BatchItem(position=position, problem=outcome.document()))
        else:
            write, _ = outcome
            done = acknowledged(service, write.key, written[write.image_id])
            items.append(BatchItem(position=position, written=done))
    failed = sum(item.problem is not None for item in items)
    return BatchResult(succeeded=len(items) - failed, failed=failed, items=items)


async def _prepare(service: IndexService, incoming: Incoming, deadline: float) -> tuple[ImageWrite, _Restore]:
    fields = incoming.fields
    _check_metadata(service, fields)
    data = incoming.data
    if data is None:
        if incoming.image_url is None:
            raise ProblemError(ProblemType.INVALID_REQUEST, "/image: send the picture or its image_url")
        data = (await service.fetcher.fetch(incoming.image_url, deadline=monotonic(deadline))).data
    sizes = service.resource.spec.storage.thumbnail_sizes
    seen = await service.vision.see(data, box=None, thumbnails=sizes, deadline=deadline)
    digest = content_digest(data)
    await _store(service, digest, data, seen)

    async def restore(_: bytes) -> None:
        await _store(service, digest, data, seen)

    return _write(service, fields, digest, len(data), seen), restore


def _check_metadata(service: IndexService, fields: ImageFields) -> None:
    limit = service.resource.spec.limits.metadata_bytes
    if fields.metadata and len(json.dumps(fields.metadata, ensure_ascii=False).encode()) > limit:
        detail = f"The metadata document is larger than {limit} bytes (limits.metadataBytes)."
        raise ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": limit})


async def _store(service: IndexService, digest: bytes, data: bytes, seen: Seen) -> None:
    """Put the original and its thumbnails; the keys are content addresses, so a repeat changes nothing."""
    assert seen.decoded is not None  # noqa: S101 - ingest always decodes
    puts = [
        service.store.put(original_key(service.name, digest), data, content_type=seen.decoded.info.media_type)
    ]
    puts += [
        service.store.put(thumbnail_key(service.name, digest, size), webp, content_type="image/webp")
        for size, webp in seen.decoded.thumbnails.items()
    ]
    await asyncio.gather(*puts)


def _write(service: IndexService, fields: ImageFields, digest: bytes, size: int, seen: Seen) -> ImageWrite:
    assert seen.decoded is not None  # noqa: S101 - ingest always decodes
    info = seen.decoded.info
    return ImageWrite(
        image_id=_image_id(service.name, fields),
        key=fields.key,
        url=fields.url,
        category=fields.category,
        metadata=fields.metadata,
        content_digest=digest,
        media_type=info.media_type,
        width=info.width,
        height=info.height,
        size_bytes=size,
        embeddings={(_WHOLE_IMAGE, service.fingerprint): seen.vector},
    )


def _image_id(index: str, fields: ImageFields) -> uuid.UUID:
    if fields.image_id is not None:
        return fields.image_id
    return uuid.uuid4() if fields.key is None else image_id_for_key(index, fields.key)


def acknowledged(service: IndexService, key: str | None, written: Written) -> ImageWritten:
    """The acknowledgement of a stored image."""
    state = EmbeddingState(state="stored", fingerprint=service.fingerprint, dimension=service.dimension)
    return ImageWritten(
        image_id=written.image_id, key=key, created=written.created, embedding=state, token=str(written.token)
    )
