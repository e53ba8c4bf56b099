"""What a check reads of the catalog, what it asks of replicas, and what came of it."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import numpy.typing as npt
from psycopg.types.json import Jsonb

from visualindex.catalog import erasures
from visualindex.catalog.connections import Connection, Connections, Transaction, one, rows, run
from visualindex.catalog.directions import has_direction
from visualindex.catalog.jobs import Fence, check_fence
from visualindex.catalog.positions import Position

DIGESTS, ROWS = "digests", "rows"
"""Kinds of questions: the digest of each bucket; the rows of some buckets, compared with the catalog's."""
_CURSOR = "visualindex_check"
_FROM = """FROM image_embeddings e JOIN images i USING (index_name, image_id)
    WHERE e.index_name = %s AND e.fingerprint = %s AND e.region = 0"""
_QUESTION = "question_id, replica, generation, kind, parameters, begun_at IS NOT NULL, answer"
_HERE = "SELECT pg_current_snapshot()::text, (SELECT value FROM meta WHERE key = 'epoch')"


@dataclass(frozen=True)
class TrueRows:
    """n images as the catalog has them: `ids` uint8[n, 16], `versions` int64[n], `buckets` int64[n], and `vectors`
    float16[n, d] where they were asked for."""

    ids: npt.NDArray[np.uint8]
    versions: npt.NDArray[np.int64]
    buckets: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float16] | None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Question:
    """Something a check wants to know of what a replica holds of a generation.

    It was `begun` when the replica has seen it; `answer` is None as long as it is open.
    """

    question_id: UUID
    replica: str
    generation: str
    kind: str
    parameters: Mapping[str, Any]
    begun: bool = False
    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CheckRecord:
    """The last check of an index that came to its end."""

    job_id: UUID
    report: Mapping[str, Any]
    checked_at: datetime


class Checks:
    """Reads for checks, their questions to replicas, and their reports."""

    connections: Connections

    async def true_rows(
        self, index: str, fingerprint: str, *, vectors: bool, batch_rows: int = 10_000
    ) -> AsyncIterator[TrueRows]:
        """Every image that has a vector of this fingerprint, as of one moment, in parts."""
        vector = "e.vector" if vectors else "NULL::bytea"
        query = f"SELECT uuid_send(i.image_id), i.version, e.bucket, {vector} {_FROM}"
        async with (
            self.connections.snapshot() as connection,
            connection.cursor(_CURSOR, binary=True) as cursor,
        ):
            await cursor.execute(query.encode(), (index, fingerprint))
            while found := await cursor.fetchmany(batch_rows):
                yield _collected(found, vectors=vectors)

    async def true_rows_of(
        self,
        index: str,
        fingerprint: str,
        *,
        buckets: Collection[int] = (),
        image_ids: Collection[bytes] = (),
    ) -> tuple[Position, TrueRows]:
        """The images of some buckets and those with some ids (16 bytes each), with their vectors, and the moment."""
        query = f"""SELECT uuid_send(i.image_id), i.version, e.bucket, e.vector {_FROM}
            AND (e.bucket = ANY(%s::int2[]) OR e.image_id = ANY(%s::uuid[]))"""
        ids = [UUID(bytes=image_id) for image_id in image_ids]
        async with self.connections.snapshot() as connection:
            snapshot, epoch = await one(connection, _HERE)
            found = await rows(connection, query, index, fingerprint, sorted(buckets), ids)
        return Position.of_snapshot(int(epoch), snapshot), _collected(found, vectors=True)

    async def without_vector(self, index: str, fingerprint: str, examples: int) -> tuple[int, list[UUID]]:
        """How many images have no vector of this fingerprint, and some of them."""
        query = """SELECT image_id FROM images i WHERE index_name = %s AND NOT EXISTS (
            SELECT FROM image_embeddings e WHERE e.index_name = i.index_name AND e.image_id = i.image_id
                AND e.region = 0 AND e.fingerprint = %s)"""
        counted = f"SELECT count(*) FROM ({query}) AS missing"  # noqa: S608 (constants)

        async def work(connection: Connection) -> tuple[int, list[UUID]]:
            some = await rows(connection, f"{query} LIMIT %s", index, fingerprint, examples)
            if len(some) < examples:
                return len(some), [image_id for (image_id,) in some]
            count = await one(connection, counted, index, fingerprint)
            return int(count[0]), [image_id for (image_id,) in some]

        return await self.connections.read(work)

    async def original_digests(self, index: str, part: int) -> set[bytes]:
        """The digests of the originals that images refer to and that begin with the byte `part`."""
        query = """SELECT DISTINCT content_digest FROM images
            WHERE index_name = %s AND content_digest >= %s AND (%s::bytea IS NULL OR content_digest < %s::bytea)"""
        first, stop = bytes([part]), None if part == 255 else bytes([part + 1])

        async def work(connection: Connection) -> set[bytes]:
            return {digest for (digest,) in await rows(connection, query, index, first, stop, stop)}

        return await self.connections.read(work)

    async def images_of(self, index: str, digests: Collection[bytes]) -> dict[bytes, list[UUID]]:
        """The images that refer to each of some originals; one that nobody refers to is left out."""
        query = """SELECT content_digest, array_agg(image_id) FROM images
            WHERE index_name = %s AND content_digest = ANY(%s) GROUP BY content_digest"""

        async def work(connection: Connection) -> dict[bytes, list[UUID]]:
            return dict(await rows(connection, query, index, list(digests)))

        return await self.connections.read(work)

    async def other_indexes_with(self, index: str, digest: bytes) -> list[str]:
        """Other indexes with an image of the same content."""
        query = (
            "SELECT DISTINCT index_name FROM images WHERE content_digest = %s AND index_name <> %s ORDER BY 1"
        )

        async def work(connection: Connection) -> list[str]:
            return [name for (name,) in await rows(connection, query, digest, index)]

        return await self.connections.read(work)

    async def to_be_erased(self, index: str, digests: Collection[bytes]) -> set[bytes]:
        """Those originals whose erasure was asked for already."""
        query = """SELECT content_digest FROM erasures
            WHERE index_name = %s AND content_digest = ANY(%s) AND erased_at IS NULL"""

        async def work(connection: Connection) -> set[bytes]:
            return {digest for (digest,) in await rows(connection, query, index, list(digests))}

        return await self.connections.read(work)

    async def request_erasures(self, index: str, digests: Collection[bytes], fence: Fence) -> None:
        """Asks for the erasure of originals; the sweep looks once more whether an image needs them."""

        async def work(transaction: Transaction) -> None:
            await check_fence(transaction.connection, fence)
            await erasures.request(transaction.connection, index, digests)

        await self.connections.write(work)

    async def note_missing_originals(
        self, index: str, part: int, missing: Collection[bytes], fence: Fence
    ) -> None:
        """Marks originals that nobody has whole, of those that begin with the byte `part`; others there lose their mark."""
        forget = """DELETE FROM missing_originals WHERE index_name = %s AND get_byte(content_digest, 0) = %s
            AND NOT content_digest = ANY(%s)"""
        mark = """INSERT INTO missing_originals (index_name, content_digest) SELECT %s, unnest(%s::bytea[])
            ON CONFLICT DO NOTHING"""

        async def work(transaction: Transaction) -> None:
            await check_fence(transaction.connection, fence)
            await run(transaction.connection, forget, index, part, list(missing))
            await run(transaction.connection, mark, index, list(missing))

        await self.connections.write(work)

    async def missing_originals(self, index: str, digests: Collection[bytes]) -> set[bytes]:
        """Those originals that the last check found nowhere, or damaged, and that nobody has put again since."""
        query = (
            "SELECT content_digest FROM missing_originals WHERE index_name = %s AND content_digest = ANY(%s)"
        )
        if not digests:
            return set()

        async def work(connection: Connection) -> set[bytes]:
            return {digest for (digest,) in await rows(connection, query, index, list(digests))}

        return await self.connections.read(work)

    async def forget_missing_original(self, index: str, digest: bytes) -> None:
        """Takes the mark off an original that was put again."""
        query = "DELETE FROM missing_originals WHERE index_name = %s AND content_digest = %s"

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, index, digest)

        await self.connections.write(work)

    async def ask_replica(
        self,
        index: str,
        replica: str,
        generation: str,
        kind: str,
        parameters: Mapping[str, Any],
        fence: Fence,
    ) -> UUID:
        """Puts a question to a replica, which finds it within a second; returns the question's id."""
        query = """INSERT INTO replica_questions
                (question_id, job_id, index_name, replica, generation, kind, parameters)
            VALUES (%s, %s, %s, %s, %s, %s, %s)"""
        question_id = uuid4()

        async def work(transaction: Transaction) -> None:
            await check_fence(transaction.connection, fence)
            values = (question_id, fence.job_id, index, replica, generation, kind, Jsonb(dict(parameters)))
            await run(transaction.connection, query, *values)

        await self.connections.write(work)
        return question_id

    async def take_questions(self, index: str, replica: str) -> list[Question]:
        """What a replica was asked and has not answered, the oldest first; notes that it has seen them."""
        query = f"""SELECT {_QUESTION} FROM replica_questions
            WHERE index_name = %s AND replica = %s AND answered_at IS NULL ORDER BY asked_at"""  # noqa: S608 (constants)
        begin = """UPDATE replica_questions SET begun_at = now()
            WHERE question_id = ANY(%s) AND begun_at IS NULL"""

        async def read(connection: Connection) -> list[Question]:
            return [Question(*row) for row in await rows(connection, query, index, replica)]

        questions = await self.connections.read(read)
        seen = [one.question_id for one in questions]

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, begin, seen)

        if seen:
            await self.connections.write(work)
        return questions

    async def answer_question(self, question_id: UUID, answer: Mapping[str, Any]) -> None:
        """Answers; a question that nobody asks any more is let be."""
        query = "UPDATE replica_questions SET answer = %s, answered_at = now() WHERE question_id = %s"

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, Jsonb(dict(answer)), question_id)

        await self.connections.write(work)

    async def questions(self, question_ids: Collection[UUID]) -> list[Question]:
        """How some questions stand."""
        query = f"SELECT {_QUESTION} FROM replica_questions WHERE question_id = ANY(%s)"  # noqa: S608 (constants)

        async def work(connection: Connection) -> list[Question]:
            return [Question(*row) for row in await rows(connection, query, list(question_ids))]

        return await self.connections.read(work)

    async def forget_questions(self, index: str, *, job_id: UUID | None = None) -> int:
        """Deletes the questions of a job, and those older than a day."""
        query = """DELETE FROM replica_questions WHERE index_name = %s
            AND (job_id = %s OR asked_at < now() - interval '1 day')"""

        async def work(transaction: Transaction) -> int:
            return await run(transaction.connection, query, index, job_id)

        return await self.connections.write(work)

    async def keep_check(self, index: str, report: Mapping[str, Any], fence: Fence) -> None:
        """Keeps the report as that of the index's last check. Raises ProblemError CONFLICT when the job was lost."""
        query = """INSERT INTO checks (index_name, job_id, report) VALUES (%s, %s, %s)
            ON CONFLICT (index_name) DO UPDATE SET job_id = excluded.job_id, report = excluded.report,
                checked_at = now()"""

        async def work(transaction: Transaction) -> None:
            await check_fence(transaction.connection, fence)
            await run(transaction.connection, query, index, fence.job_id, Jsonb(dict(report)))

        await self.connections.write(work)

    async def last_check(self, index: str) -> CheckRecord | None:
        """The last check that came to its end; None when there was none."""
        query = "SELECT job_id, report, checked_at FROM checks WHERE index_name = %s"

        async def work(connection: Connection) -> CheckRecord | None:
            found = await rows(connection, query, index)
            return CheckRecord(*found[0]) if found else None

        return await self.connections.read(work)


def _collected(found: Sequence[tuple[Any, ...]], *, vectors: bool) -> TrueRows:
    """The rows; with `vectors` without those that replicas pass over because their vectors point nowhere."""
    if vectors:
        found = [row for row in found if has_direction(row[3])]
    ids = np.frombuffer(b"".join(row[0] for row in found), np.uint8).reshape(-1, 16)
    held = None
    if vectors:
        packed = b"".join(row[3] for row in found)
        held = np.frombuffer(packed, "<f2").reshape(len(found), -1 if found else 0)
    return TrueRows(
        ids,
        np.array([row[1] for row in found], np.int64),
        np.array([row[2] for row in found], np.int64),
        held,
    )
