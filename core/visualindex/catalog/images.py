"""The images of an index: every write leaves one row in the change log, in the order in which the writes commit."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from visualindex.catalog import erasures, idempotency, patches
from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run
from visualindex.catalog.directions import check_direction, has_direction, stored
from visualindex.catalog.erasures import EnsureObjects
from visualindex.catalog.idempotency import Idempotency
from visualindex.catalog.index_encoders import check_written
from visualindex.catalog.jobs import Fence, check_fence
from visualindex.catalog.origin_rows import Origin, note
from visualindex.catalog.positions import Token
from visualindex.colours import Colour, pack, unpack
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import bucket_of

Vector = npt.NDArray[np.float32] | npt.NDArray[np.float16]
WRITTEN, DELETED = 1, 2
_RACES = 5


class Unset(Enum):
    """Tells "leave as it is" from None, which clears."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True)
class ImageWrite:
    """An image to put. `embeddings` maps (region, fingerprint) to a vector of shape [d]; region 0 is the whole image.

    `patches` maps the fingerprint of packed patches to `Packed.row_bytes`. With `beside`, address and metadata of an image
    that is there stay, and its category where this gives none. With `fields_alone` the image must have this content, and its
    vectors stay.
    """

    image_id: UUID
    content_digest: bytes
    media_type: str
    width: int
    height: int
    size_bytes: int
    embeddings: Mapping[tuple[int, str], Vector]
    key: str | None = None
    url: str | None = None
    category: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    colours: tuple[Colour, ...] = ()
    patches: Mapping[str, bytes] = field(default_factory=dict)
    beside: bool = False
    fields_alone: bool = False


class ChangedMeanwhileError(ProblemError):
    """An image whose fields were to be written is gone, or has other content by now: look at it again."""


@dataclass(frozen=True)
class Written:
    """What a put did: `replaced_digest` is the digest of other content that the image had before."""

    image_id: UUID
    token: Token
    created: bool
    replaced_digest: bytes | None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as the catalog has it; `version` grows with every change of it.

    `colours` are the dominant ones, largest share first; none for images stored by a release that found none.
    """

    image_id: UUID
    key: str | None
    url: str | None
    category: str | None
    upload_time: datetime
    metadata: dict[str, Any]
    content_digest: bytes
    media_type: str
    width: int
    height: int
    size_bytes: int
    version: int
    colours: tuple[Colour, ...] = ()


@dataclass(frozen=True)
class Page:
    """A part of a list; `cursor` asks for the next one and is None at the end."""

    images: list[ImageRecord]
    cursor: str | None


_RECORD = """image_id, key, url, category, upload_time, metadata, content_digest, media_type, width, height,
    size_bytes, version, colours"""
_WRITES = """unnest(%(image_id)s::uuid[], %(bucket)s::int2[], %(key)s::text[], %(url)s::text[], %(category)s::text[],
    %(metadata)s::text[], %(content_digest)s::bytea[], %(media_type)s::text[], %(width)s::int[], %(height)s::int[],
    %(size_bytes)s::int8[], %(colours)s::bytea[], %(beside)s::bool[]) AS w (image_id, bucket, key, url, category, metadata,
        content_digest, media_type, width, height, size_bytes, colours, beside)"""
_INSERT = f"""INSERT INTO images (index_name, image_id, bucket, key, url, category, metadata, content_digest, media_type,
        width, height, size_bytes, colours)
    SELECT %(index)s, w.image_id, w.bucket, w.key, w.url, w.category, w.metadata::jsonb, w.content_digest, w.media_type,
        w.width, w.height, w.size_bytes, w.colours FROM {_WRITES} ORDER BY w.image_id
    ON CONFLICT (index_name, image_id) DO NOTHING RETURNING image_id"""  # noqa: S608 (constants)
# `seq` is drawn here, when every row is already ours: one image's versions then follow the order of its commits.
_UPDATE = f"""WITH w AS (SELECT * FROM {_WRITES}),
    logged AS (
        INSERT INTO changes (index_name, bucket, image_id, kind)
        SELECT %(index)s, w.bucket, w.image_id, {WRITTEN} FROM w RETURNING image_id, seq)
    UPDATE images i SET key = w.key, url = CASE WHEN w.beside THEN i.url ELSE w.url END,
        category = CASE WHEN w.beside THEN coalesce(w.category, i.category) ELSE w.category END,
        metadata = CASE WHEN w.beside THEN i.metadata ELSE w.metadata::jsonb END,
        content_digest = w.content_digest, media_type = w.media_type, width = w.width, height = w.height,
        size_bytes = w.size_bytes, colours = w.colours, version = logged.seq,
        upload_time = CASE WHEN i.content_digest = w.content_digest THEN i.upload_time ELSE now() END
    FROM w JOIN logged USING (image_id)
    WHERE i.index_name = %(index)s AND i.image_id = w.image_id
    RETURNING pg_current_xact_id()::text"""  # noqa: S608 (constants)
_LOG_ONE = """WITH logged AS (
        INSERT INTO changes (index_name, bucket, image_id, kind) VALUES (%s, %s, %s, %s) RETURNING seq, xid)"""


class Images:
    """Reads and writes images."""

    connections: Connections

    async def put_images(
        self,
        index: str,
        images: Sequence[ImageWrite],
        idempotency: Idempotency[Written] | None = None,
        *,
        ensure_objects: EnsureObjects | None = None,
        origins: Sequence[Origin] = (),
        fence: Fence | None = None,
    ) -> list[Written]:
        """Creates or replaces `images` in one transaction; results are in their order and share one token.

        `origins` are noted and `fence` is checked in that transaction: CONFLICT when the job is no longer the caller's.

        `ensure_objects(digest)` is awaited where an original may just have been erased and must store it again; a caller
        that gives none stores its originals after this. Raises LacksVectorError for a write without the vectors of an
        encoder that is served as well, ChangedMeanwhileError, and
        AlreadyAnswered when `idempotency` names a request that was answered; ProblemError INDEX_NOT_FOUND,
        FINGERPRINT_MISMATCH (wrong dimension), INVALID_REQUEST (an id twice), IDEMPOTENCY_CONFLICT.
        """
        _refuse_doubles(images)

        async def work(transaction: Transaction) -> list[Written]:
            await check_fence(transaction.connection, fence)
            if idempotency:
                await _claim(transaction, idempotency)
            written = await _put(transaction, index, images, ensure_objects)
            await note(transaction.connection, index, origins)
            if idempotency:
                await _keep(transaction, idempotency, written)
            return written

        return await self.connections.write(work)

    async def get_image(self, index: str, image_id: UUID) -> ImageRecord:
        """The image; ProblemError IMAGE_NOT_FOUND."""
        found = await self.get_images(index, [image_id])
        if image_id not in found:
            raise _no_image(index, image_id)
        return found[image_id]

    async def get_images(self, index: str, image_ids: Sequence[UUID]) -> dict[UUID, ImageRecord]:
        """Those of `image_ids` that exist, in one round trip."""
        query = f"SELECT {_RECORD} FROM images WHERE index_name = %s AND image_id = ANY(%s)"  # noqa: S608 (constants)

        async def work(connection: Connection) -> dict[UUID, ImageRecord]:
            return {row[0]: _record(row) for row in await rows(connection, query, index, list(image_ids))}

        return await self.connections.read(work)

    async def list_images(
        self, index: str, cursor: str | None = None, limit: int = 100, category: str | None = None
    ) -> Page:
        """Images, newest first, at most `limit`; ProblemError INVALID_REQUEST for a cursor that is none."""
        where, parameters = ["index_name = %s"], [index]
        if category is not None:
            where, parameters = [*where, "category = %s"], [*parameters, category]
        values: list[Any] = list(parameters)
        if cursor is not None:
            where, values = [*where, "(upload_time, image_id) < (%s, %s)"], [*values, *_decode_cursor(cursor)]
        query = f"""SELECT {_RECORD} FROM images WHERE {" AND ".join(where)}
            ORDER BY upload_time DESC, image_id DESC LIMIT %s"""  # noqa: S608 (constants)

        async def work(connection: Connection) -> list[ImageRecord]:
            return [_record(row) for row in await rows(connection, query, *values, limit + 1)]

        found = await self.connections.read(work)
        return Page(found[:limit], _encode_cursor(found[limit - 1]) if len(found) > limit else None)

    async def get_vectors(
        self, index: str, image_ids: Sequence[UUID], fingerprint: str, *, region: int = 0
    ) -> dict[UUID, npt.NDArray[np.float32]]:
        """The stored vectors, float32[d] each, of those images that have one of this fingerprint that points anywhere."""
        query = """SELECT image_id, vector FROM image_embeddings
            WHERE index_name = %s AND image_id = ANY(%s) AND region = %s AND fingerprint = %s"""

        async def work(connection: Connection) -> dict[UUID, npt.NDArray[np.float32]]:
            found = await rows(connection, query, index, list(image_ids), region, fingerprint)
            return {
                image_id: np.frombuffer(vector, "<f2").astype(np.float32)
                for image_id, vector in found
                if has_direction(vector)
            }

        return await self.connections.read(work)

    async def patch_image(
        self,
        index: str,
        image_id: UUID,
        *,
        metadata: Mapping[str, Any] | None = None,
        category: str | Unset | None = UNSET,
        url: str | Unset | None = UNSET,
    ) -> Token:
        """Changes what is given: `metadata` is a JSON merge patch (RFC 7396). ProblemError IMAGE_NOT_FOUND."""

        async def work(transaction: Transaction) -> Token:
            return await _patch(transaction, index, image_id, metadata or {}, category, url)

        return await self.connections.write(work)

    async def delete_image(self, index: str, image_id: UUID) -> Token | None:
        """Deletes the image and asks for the erasure of its original; None if there is no such image."""

        async def work(transaction: Transaction) -> Token | None:
            return await delete_row(transaction, index, image_id)

        return await self.connections.write(work)


async def _claim(transaction: Transaction, request: Idempotency[Written]) -> None:
    await idempotency.claim(transaction.connection, request)


async def _keep(transaction: Transaction, request: Idempotency[Written], written: Sequence[Written]) -> None:
    await idempotency.keep(transaction.connection, request, written)


async def _put(
    transaction: Transaction, index: str, images: Sequence[ImageWrite], ensure: EnsureObjects | None
) -> list[Written]:
    if not images:
        return []
    connection = transaction.connection
    await _check_vectors(connection, index, images)
    await check_written(connection, index, [image.embeddings.keys() for image in images])
    await erasures.hold_originals(connection, index, {image.content_digest for image in images}, ensure)
    before = await _lock_rows(connection, index, images)
    _refuse_changed(index, images, before)
    done = await connection.execute(_UPDATE.encode(), _columns(index, images))
    xid = await done.fetchone()
    assert xid is not None  # noqa: S101 (every image was locked above)
    token = Token(transaction.epoch, int(xid[0]))
    written = [_written(image, token, before.get(image.image_id)) for image in images]
    await _put_embeddings(connection, index, images, written)
    await patches.put(
        connection, index, images, [w.image_id for w in written if w.replaced_digest is not None]
    )
    replaced = {result.replaced_digest for result in written if result.replaced_digest is not None}
    await erasures.request(connection, index, replaced)
    return written


def _written(image: ImageWrite, token: Token, before: bytes | None) -> Written:
    replaced = before if before != image.content_digest else None
    return Written(image.image_id, token, created=before is None, replaced_digest=replaced)


async def _lock_rows(connection: Connection, index: str, images: Sequence[ImageWrite]) -> dict[UUID, bytes]:
    """Makes every row exist and ours; returns the digests of those that existed before."""
    locked: dict[UUID, bytes] = {}
    inserted: set[UUID] = set()
    for _ in range(_RACES):
        missing = [
            image for image in images if image.image_id not in inserted and image.image_id not in locked
        ]
        if not missing:
            return locked
        locked.update(await _lock_existing(connection, index, [image.image_id for image in missing]))
        fresh = [image for image in missing if image.image_id not in locked]
        cursor = await connection.execute(_INSERT.encode(), _columns(index, fresh))
        inserted.update(row[0] for row in await cursor.fetchall())
    if len(inserted) + len(locked) == len(images):
        return locked
    detail = f"images of index {index} keep being created and deleted by other writers: try again"
    raise ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1.0)


async def _lock_existing(connection: Connection, index: str, image_ids: list[UUID]) -> dict[UUID, bytes]:
    query = """SELECT image_id, content_digest FROM images WHERE index_name = %s AND image_id = ANY(%s)
        ORDER BY image_id FOR UPDATE"""
    return dict(await rows(connection, query, index, image_ids))


def _columns(index: str, images: Sequence[ImageWrite]) -> dict[str, Any]:
    names = (
        "image_id",
        "key",
        "url",
        "category",
        "content_digest",
        "media_type",
        "width",
        "height",
        "size_bytes",
        "beside",
    )
    columns: dict[str, Any] = {name: [getattr(image, name) for image in images] for name in names}
    metadata = [orjson.dumps(dict(image.metadata)).decode() for image in images]
    buckets = [bucket_of(image.image_id) for image in images]
    colours = [pack(image.colours) for image in images]
    return {**columns, "index": index, "metadata": metadata, "bucket": buckets, "colours": colours}


def _record(row: TupleRow) -> ImageRecord:
    *fields, colours = row
    fields.append(unpack(colours or b""))
    return ImageRecord(*fields)


async def _put_embeddings(
    connection: Connection, index: str, images: Sequence[ImageWrite], written: Sequence[Written]
) -> None:
    replaced = [result.image_id for result in written if result.replaced_digest is not None]
    if replaced:
        stale = "DELETE FROM image_embeddings WHERE index_name = %s AND image_id = ANY(%s)"
        await run(connection, stale, index, replaced)
    parts = [
        (image.image_id, region, fingerprint, bucket_of(image.image_id), stored(vector).tobytes())
        for image in images
        for (region, fingerprint), vector in image.embeddings.items()
    ]
    await run(
        connection,
        """INSERT INTO image_embeddings (index_name, image_id, region, fingerprint, bucket, vector)
           SELECT %s, e.* FROM unnest(%s::uuid[], %s::int2[], %s::text[], %s::int2[], %s::bytea[]) AS e
           ON CONFLICT (index_name, image_id, region, fingerprint)
           DO UPDATE SET vector = excluded.vector, updated_at = now()""",
        index,
        *([part[column] for part in parts] for column in range(5)),
    )


async def _patch(
    transaction: Transaction,
    index: str,
    image_id: UUID,
    metadata: Mapping[str, Any],
    category: str | Unset | None,
    url: str | Unset | None,
) -> Token:
    query = "SELECT metadata, category, url FROM images WHERE index_name = %s AND image_id = %s FOR UPDATE"
    found = await rows(transaction.connection, query, index, image_id)
    if not found:
        raise _no_image(index, image_id)
    document = merge_patch(found[0][0], metadata)
    category = found[0][1] if isinstance(category, Unset) else category
    url = found[0][2] if isinstance(url, Unset) else url
    change = f"""{_LOG_ONE} UPDATE images SET metadata = %s, category = %s, url = %s, version = logged.seq FROM logged
        WHERE index_name = %s AND image_id = %s RETURNING logged.xid::text"""  # noqa: S608 (constants)
    logged = (index, bucket_of(image_id), image_id, WRITTEN)
    updated = await rows(
        transaction.connection, change, *logged, Jsonb(document), category, url, index, image_id
    )
    return Token(transaction.epoch, int(updated[0][0]))


async def delete_row(transaction: Transaction, index: str, image_id: UUID) -> Token | None:
    """Deletes an image within a transaction, as `delete_image` does."""
    query = "DELETE FROM images WHERE index_name = %s AND image_id = %s RETURNING content_digest"
    deleted = await rows(transaction.connection, query, index, image_id)
    if not deleted:
        return None
    await erasures.request(transaction.connection, index, {deleted[0][0]})
    change = f"{_LOG_ONE} SELECT xid::text FROM logged"  # noqa: S608 (constants)
    logged = await rows(transaction.connection, change, index, bucket_of(image_id), image_id, DELETED)
    return Token(transaction.epoch, int(logged[0][0]))


def merge_patch(document: Any, patch: Any) -> Any:
    """`document` after the JSON merge patch `patch` (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(document) if isinstance(document, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


async def _check_vectors(connection: Connection, index: str, images: Sequence[ImageWrite]) -> None:
    found = await rows(connection, "SELECT fingerprint, dimension FROM indexes WHERE index_name = %s", index)
    if not found:
        raise ProblemError(ProblemType.INDEX_NOT_FOUND, f"there is no index {index}: create it first")
    own, dimension = found[0]
    for image in images:
        for (region, fingerprint), vector in image.embeddings.items():
            if vector.ndim != 1 or (fingerprint == own and len(vector) != dimension):
                detail = (
                    f"the vector of image {image.image_id}, region {region}, has shape {list(vector.shape)}; index {index} "
                    f"takes [{dimension}]: encode the image with the index's encoder"
                )
                raise ProblemError(ProblemType.FINGERPRINT_MISMATCH, detail)
            check_direction(vector, f"image {image.image_id} of index {index}, region {region}: ")


def _refuse_doubles(images: Sequence[ImageWrite]) -> None:
    seen: set[UUID] = set()
    for image in images:
        if image.image_id in seen:
            detail = f"image {image.image_id} is in the request twice: send each image once"
            raise ProblemError(ProblemType.INVALID_REQUEST, detail)
        seen.add(image.image_id)


def _refuse_changed(index: str, images: Sequence[ImageWrite], before: Mapping[UUID, bytes]) -> None:
    for image in images:
        if image.fields_alone and before.get(image.image_id) != image.content_digest:
            detail = (
                f"image {image.image_id} of index {index} was deleted or replaced meanwhile: look at it again"
            )
            raise ChangedMeanwhileError(ProblemType.CONFLICT, detail)


def _no_image(index: str, image_id: UUID) -> ProblemError:
    return ProblemError(ProblemType.IMAGE_NOT_FOUND, f"index {index} has no image {image_id}")


def _encode_cursor(last: ImageRecord) -> str:
    text = f"{last.upload_time.isoformat()}|{last.image_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, _, image_id = text.partition("|")
        return datetime.fromisoformat(moment), UUID(image_id)
    except (ValueError, binascii.Error) as error:
        detail = (
            "the cursor is not one that a list returned: pass it unchanged, or leave it out to start again"
        )
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from error
