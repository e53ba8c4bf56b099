"""What an entry comes to: nothing to do, a row that can be written as it is, or a picture for the encoder."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from visualindex.api.images import ImageFields
from visualindex.catalog import Catalog, ImageRecord, ImageWrite, Origin, Twin
from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import Decoded, DecodeJob, DecodePool, InputSpec
from visualindex.ingesting.entries import Entry, Refusal
from visualindex.ingesting.fields import beside, check_metadata, image_id_of, says_the_same
from visualindex.ingesting.writes import write_of_fields, write_of_twins
from visualindex.objectstore import ObjectStore, original_key
from visualindex.spec import VisualIndex

Restore = Callable[[bytes], Awaitable[None]]

_AT_ONCE = 8
_PATIENCE_S = 60.0
_PASSING = frozenset(
    {
        ProblemType.UNAVAILABLE,
        ProblemType.OVERLOADED,
        ProblemType.DEADLINE_EXCEEDED,
        ProblemType.STORAGE_FULL,
    }
)


def is_passing(problem: BaseException) -> bool:
    """Whether a problem is not the entry's: the same entry may well be taken in later."""
    return isinstance(problem, ProblemError) and problem.type in _PASSING


@dataclass(frozen=True)
class Unchanged:
    """The index has the image like that."""

    image_id: uuid.UUID
    origin: Origin | None
    size_bytes: int = 0
    restored: bool = False
    """Whether its original was put again, since a check had found it missing or damaged."""


@dataclass(frozen=True)
class Ready:
    """A row to write; `restore` stores the original again where it was just erased."""

    write: ImageWrite
    origin: Origin | None
    restore: Restore


@dataclass(frozen=True)
class Pending:
    """A picture whose original is stored, decoded for each of the encoders."""

    image_id: uuid.UUID
    fields: ImageFields
    digest: bytes
    size_bytes: int
    decoded: Sequence[Decoded]
    origin: Origin | None
    restore: Restore
    beside: bool
    """Whether what others said of the image stays."""


Outcome = Unchanged | Ready | Pending | Refusal


@dataclass(frozen=True)
class Made:
    """What an encoder's vectors and patches are made with: pixels of `input`; `features` None where no patches are kept."""

    input: InputSpec
    fingerprint: str
    features: str | None


class Preparing:
    """Prepares the entries of an index, eight at a time."""

    def __init__(
        self,
        catalog: Catalog,
        store: ObjectStore,
        resource: VisualIndex,
        pool: DecodePool,
        made: Sequence[Made],
    ) -> None:
        """`made` is what each of the encoders makes that the index is served with."""
        self._catalog = catalog
        self._store = store
        self._resource = resource
        self._pool = pool
        self._made = made

    async def all_of(self, entries: Sequence[Entry | Refusal]) -> list[Outcome]:
        """What each comes to, in their order. Raises ProblemError only for what `is_passing`."""
        taken = [entry for entry in entries if isinstance(entry, Entry)]
        known = await self._known(taken)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(entry: Entry | Refusal) -> Outcome:
            if isinstance(entry, Refusal):
                return entry
            async with gate:
                try:
                    return await self._one(entry, known)
                except ProblemError as problem:
                    if is_passing(problem):
                        raise
                    return Refusal(entry.place, entry.fields.key, problem)

        tasks = [asyncio.create_task(one(entry)) for entry in entries]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _known(self, entries: Sequence[Entry]) -> "_Known":
        name = self._resource.name
        ids = [image_id_of(name, entry.fields) for entry in entries]
        records = await self._catalog.get_images(name, ids)
        encoded = set(records)
        for made in self._made:
            encoded &= (await self._catalog.get_vectors(name, list(records), made.fingerprint)).keys()
        lost = await self._catalog.missing_originals(name, [one.content_digest for one in records.values()])
        origins: dict[tuple[str, str], Origin] = {}
        for place in {entry.object.place for entry in entries if entry.object}:
            keys = [entry.object.key for entry in entries if entry.object and entry.object.place == place]
            found = await self._catalog.get_origins(name, place, keys)
            origins.update({(place, key): origin for key, origin in found.items()})
        return _Known({i: record for i, record in records.items() if i in encoded}, records, origins, lost)

    async def _one(self, entry: Entry, known: "_Known") -> Outcome:
        image_id = image_id_of(self._resource.name, entry.fields)
        record = known.records.get(image_id)
        fields = entry.fields if entry.whole else beside(record, entry.fields)
        check_metadata(self._resource.spec, fields.metadata, None if record is None else record.metadata)
        origin = known.origin_of(entry, image_id)
        if origin is not None:
            encoded = known.encoded[image_id]
            if says_the_same(encoded, fields):
                return Unchanged(image_id, None)
            return Ready(_fields_of(entry, encoded), origin, self._restore(entry))
        return await self._fetched(entry, image_id, fields, known.encoded.get(image_id))

    async def _fetched(
        self, entry: Entry, image_id: uuid.UUID, fields: ImageFields, encoded: ImageRecord | None
    ) -> Outcome:
        content = await entry.read()
        digest = await asyncio.to_thread(lambda: hashlib.sha256(content.data).digest())
        origin = _origin(entry, image_id, digest, content.etag)
        restore = self._restore(entry)
        if encoded is not None and encoded.content_digest == digest:
            restored = await self._put_if_lost(digest, content.data)
            if says_the_same(encoded, fields):
                return Unchanged(image_id, origin, len(content.data), restored)
            return Ready(_fields_of(entry, encoded), origin, restore)
        twins = await self._twins(digest)
        if len(twins) == len(self._made):
            await self._put_if_lost(digest, content.data)
            write = write_of_twins(image_id, entry.fields, digest, twins, beside=not entry.whole)
            return Ready(write, origin, restore)
        decoded = [
            await self._pool.decode(
                DecodeJob(content.data, made.input, colours=place == 0), deadline=time.time() + _PATIENCE_S
            )
            for place, made in enumerate(self._made)
        ]
        await self._put(digest, content.data, decoded[0].info.media_type)
        said = image_id, entry.fields, digest, len(content.data)
        return Pending(*said, decoded, origin, restore, beside=not entry.whole)

    async def _twins(self, digest: bytes) -> dict[str, Twin]:
        """By encoder an image of that content that lacks nothing that it makes."""
        found = {}
        for made in self._made:
            twin = (await self._catalog.twins(self._resource.name, [digest], made.fingerprint)).get(digest)
            if twin is not None and (made.features is None or made.features in twin.patches):
                found[made.fingerprint] = twin
        return found

    def _restore(self, entry: Entry) -> Restore:
        async def restore(digest: bytes) -> None:
            """The bytes are not held until here: a batch of originals is larger than all else of it."""
            data = (await entry.read()).data
            if hashlib.sha256(data).digest() != digest:
                detail = f"{entry.place} changed while it was taken in: it will be read again"
                raise ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1.0)
            await self._put(digest, data, "application/octet-stream")

        return restore

    async def _put_if_lost(self, digest: bytes, data: bytes) -> bool:
        """Puts an original again that a check found missing or damaged; says whether it was one."""
        name = self._resource.name
        if not await self._catalog.missing_originals(name, [digest]):
            return False
        await self._put(digest, data, "application/octet-stream")
        await self._catalog.forget_missing_original(name, digest)
        return True

    async def _put(self, digest: bytes, data: bytes, media_type: str) -> None:
        await self._store.put(original_key(self._resource.name, digest), data, content_type=media_type)


@dataclass(frozen=True)
class _Known:
    """What the catalog has of the images that entries mean; `encoded` are those with a vector of every encoder at hand."""

    encoded: Mapping[uuid.UUID, ImageRecord]
    records: Mapping[uuid.UUID, ImageRecord]
    origins: Mapping[tuple[str, str], Origin]
    lost: AbstractSet[bytes]
    """Digests of those whose original a check found missing or damaged."""

    def origin_of(self, entry: Entry, image_id: uuid.UUID) -> Origin | None:
        """The noted origin of an object that did not change and whose image, and original, still is what was made of it."""
        if entry.object is None or image_id not in self.encoded:
            return None
        origin = self.origins.get((entry.object.place, entry.object.key))
        if origin is None or origin.etag != entry.object.etag or origin.image_id != image_id:
            return None
        digest = self.encoded[image_id].content_digest
        return origin if digest == origin.content_digest and digest not in self.lost else None


def _fields_of(entry: Entry, record: ImageRecord) -> ImageWrite:
    """What the entry itself says: what others say by then is put beside it when it is written."""
    return write_of_fields(record, entry.fields, beside=not entry.whole)


def _origin(entry: Entry, image_id: uuid.UUID, digest: bytes, etag: str) -> Origin | None:
    if entry.object is None:
        return None
    return Origin(entry.object.place, entry.object.key, image_id, digest, etag)
