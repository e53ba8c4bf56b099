"""What a rebuild reads and writes: images that lack something, chunks that were committed, images that cannot be had.

A chunk is committed at most once, in one transaction with the proof that the job is still its holder's. What it brings is
kept only for images whose content is still the one that was encoded.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, one, rows, run
from visualindex.catalog.directions import NO_DIRECTION, has_direction
from visualindex.catalog.images import WRITTEN
from visualindex.catalog.jobs import Fence, check_fence
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import bucket_of

_CURSOR = "visualindex_lacking"
# Bytes in the order of the index, so that a plan never sorts: an image without its vector, or without colours.
_LACKING = """SELECT i.image_id, i.content_digest, e.vector, i.colours IS NULL
    FROM images i
    LEFT JOIN image_embeddings e ON e.index_name = i.index_name AND e.image_id = i.image_id AND e.region = 0
        AND e.fingerprint = %(fingerprint)s
    LEFT JOIN quarantine q ON q.index_name = i.index_name AND q.image_id = i.image_id AND q.job_id = %(job)s
        AND q.content_digest = i.content_digest
    WHERE i.index_name = %(index)s AND q.image_id IS NULL
        AND (%(all)s OR e.image_id IS NULL OR i.colours IS NULL)
    ORDER BY i.image_id"""
_HELD = """SELECT image_id, bucket, version FROM images i
    JOIN unnest(%s::uuid[], %s::bytea[]) AS f (image_id, content_digest) USING (image_id, content_digest)
    WHERE i.index_name = %s ORDER BY image_id FOR UPDATE OF i"""
# Whether anybody follows the vectors of an encoder: the index itself does, and what was built of them will.
_FOLLOWED = """SELECT i.fingerprint = f.fingerprint OR EXISTS (SELECT FROM generations g WHERE g.index_name = i.index_name
        AND g.fingerprint = f.fingerprint AND g.state NOT IN ('failed', 'retired', 'gone'))
    FROM indexes i, (VALUES (%s::text, %s::text)) AS f (index_name, fingerprint) WHERE i.index_name = f.index_name"""
_ACCOUNT = """SELECT count(*), coalesce(jsonb_agg(account), '[]') FROM
    (SELECT account FROM job_chunks WHERE job_id = %s ORDER BY plan, chunk) AS each"""


@dataclass(frozen=True, slots=True)
class Lacking:
    """An image of a plan. `vector` is the stored one as bytes (float16[d]), None where there is none of the fingerprint."""

    image_id: UUID
    content_digest: bytes
    vector: bytes | None
    colours: bool
    """Whether it lacks colours."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What was made of an image: vector (float16[d] as bytes), packed colours and packed patches; None where not made."""

    image_id: UUID
    content_digest: bytes
    vector: bytes | None
    colours: bytes | None
    patches: bytes | None


@dataclass(frozen=True, slots=True)
class Refused:
    """An image of which nothing can be made: `reason` is the slug of a problem type, `detail` its words."""

    image_id: UUID
    content_digest: bytes
    reason: str
    detail: str


@dataclass(frozen=True)
class Quarantined:
    """An image in quarantine, as long as it has the content that could not be had."""

    image_id: UUID
    reason: str
    detail: str
    job_id: UUID
    noted_at: datetime


@dataclass(frozen=True)
class ChunkCommit:
    """A chunk of a job's plan and what it brings. `account` is what it took, as JSON."""

    plan: str
    chunk: int
    fingerprint: str
    features: str | None
    encoded: Sequence[Encoded]
    refused: Sequence[Refused]
    account: Mapping[str, Any]


class Reindexing:
    """Plans and commits of a rebuild."""

    connections: Connections

    async def lacking(
        self, index: str, fingerprint: str, job_id: UUID, *, all_images: bool, batch: int = 5_000
    ) -> AsyncIterator[list[Lacking]]:
        """Images without a vector of `fingerprint` or without colours, by id and of one moment; every one with `all_images`.

        Those that this job put into quarantine are left out.
        """
        values = {"index": index, "fingerprint": fingerprint, "job": job_id, "all": all_images}
        async with self.connections.snapshot() as connection:
            await one(connection, "SELECT set_config('cursor_tuple_fraction', '1.0', true)")
            async with connection.cursor(_CURSOR, binary=True) as cursor:
                await cursor.execute(_LACKING.encode(), values)
                while found := await cursor.fetchmany(batch):
                    yield [Lacking(*row) for row in found]

    async def job_ledger(self, job_id: UUID) -> dict[str, Any] | None:
        """What `set_job_ledger` kept; None before the first plan."""

        async def work(connection: Connection) -> dict[str, Any] | None:
            found = await rows(connection, "SELECT ledger FROM jobs WHERE job_id = %s", job_id)
            return found[0][0] if found else None

        return await self.connections.read(work)

    async def set_job_ledger(self, fence: Fence, ledger: Mapping[str, Any]) -> None:
        """Puts plans into force. Raises ProblemError CONFLICT when the job is no longer the caller's."""

        async def work(transaction: Transaction) -> None:
            await check_fence(transaction.connection, fence)
            query = "UPDATE jobs SET ledger = %s, ledger_at = now(), attempts = 0 WHERE job_id = %s"
            await run(transaction.connection, query, Jsonb(dict(ledger)), fence.job_id)

        await self.connections.write(work)

    async def commit_chunk(self, index: str, fence: Fence, chunk: ChunkCommit) -> Sequence[Refused]:
        """Takes a chunk in, once, and returns what is refused of it. Raises ProblemError CONFLICT as `check_fence`.

        Images whose vectors point nowhere are refused, too. A job that gets on has its attempts counted anew: what ends it
        is a fault that repeats itself.
        """
        chunk = _sorted_out(chunk)
        mark = """INSERT INTO job_chunks (job_id, plan, chunk, account) VALUES (%s, %s, %s, %s)
            ON CONFLICT DO NOTHING"""

        async def work(transaction: Transaction) -> None:
            connection = transaction.connection
            await check_fence(connection, fence)
            await run(connection, "UPDATE jobs SET attempts = 0 WHERE job_id = %s", fence.job_id)
            account = Jsonb({**chunk.account, "refused": len(chunk.refused)})
            if await run(connection, mark, fence.job_id, chunk.plan, chunk.chunk, account):
                await _take(connection, index, fence.job_id, chunk)

        await self.connections.write(work)
        return chunk.refused

    async def committed_chunks(self, job_id: UUID, plan: str) -> set[int]:
        """The chunks of a plan that are in the catalog."""

        async def work(connection: Connection) -> set[int]:
            query = "SELECT chunk FROM job_chunks WHERE job_id = %s AND plan = %s"
            return {chunk for (chunk,) in await rows(connection, query, job_id, plan)}

        return await self.connections.read(work)

    async def chunk_accounts(self, job_id: UUID) -> list[dict[str, Any]]:
        """What each committed chunk of a job took."""

        async def work(connection: Connection) -> list[dict[str, Any]]:
            return list((await one(connection, _ACCOUNT, job_id))[1])

        return await self.connections.read(work)

    async def quarantined(self, index: str, limit: int = 1_000) -> list[Quarantined]:
        """Images whose present content cannot be had, the latest first."""
        query = """SELECT q.image_id, q.reason, q.detail, q.job_id, q.noted_at FROM quarantine q
            JOIN images i USING (index_name, image_id, content_digest)
            WHERE q.index_name = %s ORDER BY q.noted_at DESC, q.image_id LIMIT %s"""

        async def work(connection: Connection) -> list[Quarantined]:
            return [Quarantined(*row) for row in await rows(connection, query, index, limit)]

        return await self.connections.read(work)

    async def count_quarantined(self, index: str, job_id: UUID) -> int:
        """Images that a job put into quarantine and whose content is still the one that cannot be had."""
        query = """SELECT count(*) FROM quarantine q JOIN images i USING (index_name, image_id, content_digest)
            WHERE q.index_name = %s AND q.job_id = %s"""

        async def work(connection: Connection) -> int:
            return int((await one(connection, query, index, job_id))[0])

        return await self.connections.read(work)


def _sorted_out(chunk: ChunkCommit) -> ChunkCommit:
    """The chunk in which images are refused whose vectors point nowhere."""
    nowhere = [one for one in chunk.encoded if one.vector is not None and not has_direction(one.vector)]
    if not nowhere:
        return chunk
    slug = ProblemType.INVALID_IMAGE.value.slug
    refused = [Refused(one.image_id, one.content_digest, slug, NO_DIRECTION) for one in nowhere]
    kept = [one for one in chunk.encoded if one.vector is None or has_direction(one.vector)]
    return replace(chunk, encoded=kept, refused=[*chunk.refused, *refused])


async def _take(connection: Connection, index: str, job_id: UUID, chunk: ChunkCommit) -> None:
    known = await rows(connection, _FOLLOWED, index, chunk.fingerprint)
    if not known:
        raise ProblemError(
            ProblemType.INDEX_NOT_FOUND, f"there is no index {index}: it was deleted meanwhile"
        )
    held = await _held(connection, index, [*chunk.encoded, *chunk.refused])
    kept = [one for one in chunk.encoded if one.image_id in held]
    made = await _vectors(connection, index, chunk.fingerprint, kept)
    if known[0][0]:  # searches use these, or will: shards are to hear of them
        await _log(connection, index, made)
    await _colours(connection, index, kept)
    await _patches(connection, index, chunk.features, kept, held)
    await _quarantine(connection, index, job_id, [one for one in chunk.refused if one.image_id in held], kept)


async def _held(connection: Connection, index: str, images: Sequence[Encoded | Refused]) -> dict[UUID, int]:
    """The images that still have that content, locked: id to version."""
    columns = [one.image_id for one in images], [one.content_digest for one in images]
    return {image_id: version for image_id, _, version in await rows(connection, _HELD, *columns, index)}


async def _vectors(
    connection: Connection, index: str, fingerprint: str, images: Sequence[Encoded]
) -> list[UUID]:
    """Writes the vectors that are not there yet; returns whose."""
    parts = [(one.image_id, bucket_of(one.image_id), one.vector) for one in images if one.vector is not None]
    query = """INSERT INTO image_embeddings (index_name, image_id, region, fingerprint, bucket, vector)
        SELECT %s, v.image_id, 0, %s, v.bucket, v.vector
        FROM unnest(%s::uuid[], %s::int2[], %s::bytea[]) AS v (image_id, bucket, vector)
        ON CONFLICT (index_name, image_id, region, fingerprint) DO NOTHING RETURNING image_id"""
    columns = ([part[column] for part in parts] for column in range(3))
    return [image_id for (image_id,) in await rows(connection, query, index, fingerprint, *columns)]


async def _log(connection: Connection, index: str, images: Sequence[UUID]) -> None:
    query = """INSERT INTO changes (index_name, bucket, image_id, kind)
        SELECT %s, c.bucket, c.image_id, %s FROM unnest(%s::uuid[], %s::int2[]) AS c (image_id, bucket)"""
    await run(connection, query, index, WRITTEN, list(images), [bucket_of(image_id) for image_id in images])


async def _colours(connection: Connection, index: str, images: Sequence[Encoded]) -> None:
    found = [one for one in images if one.colours is not None]
    query = """UPDATE images i SET colours = c.colours FROM unnest(%s::uuid[], %s::bytea[]) AS c (image_id, colours)
        WHERE i.index_name = %s AND i.image_id = c.image_id AND i.colours IS NULL"""
    await run(connection, query, [one.image_id for one in found], [one.colours for one in found], index)


async def _patches(
    connection: Connection,
    index: str,
    features: str | None,
    images: Sequence[Encoded],
    versions: Mapping[UUID, int],
) -> None:
    found = [one for one in images if one.patches is not None]
    if features is None or not found:
        return
    query = """INSERT INTO image_patches (index_name, image_id, fingerprint, patches, content_digest, version)
        SELECT %s, p.image_id, %s, p.patches, p.digest, p.version
        FROM unnest(%s::uuid[], %s::bytea[], %s::bytea[], %s::int8[]) AS p (image_id, patches, digest, version)
        ON CONFLICT (index_name, image_id, fingerprint) DO UPDATE SET patches = excluded.patches,
            content_digest = excluded.content_digest, version = excluded.version
        WHERE image_patches.content_digest <> excluded.content_digest"""
    columns = (
        [one.image_id for one in found],
        [one.patches for one in found],
        [one.content_digest for one in found],
        [versions[one.image_id] for one in found],
    )
    await run(connection, query, index, features, *columns)


async def _quarantine(
    connection: Connection, index: str, job_id: UUID, refused: Sequence[Refused], kept: Sequence[Encoded]
) -> None:
    healed = "DELETE FROM quarantine WHERE index_name = %s AND image_id = ANY(%s)"
    await run(connection, healed, index, [one.image_id for one in kept])
    query = """INSERT INTO quarantine (index_name, image_id, content_digest, reason, detail, job_id)
        SELECT %s, r.image_id, r.digest, r.reason, r.detail, %s
        FROM unnest(%s::uuid[], %s::bytea[], %s::text[], %s::text[]) AS r (image_id, digest, reason, detail)
        ON CONFLICT (index_name, image_id) DO UPDATE SET content_digest = excluded.content_digest,
            reason = excluded.reason, detail = excluded.detail, job_id = excluded.job_id, noted_at = now()"""
    columns = (
        [one.image_id for one in refused],
        [one.content_digest for one in refused],
        [one.reason for one in refused],
        [one.detail for one in refused],
    )
    await run(connection, query, index, job_id, *columns)
