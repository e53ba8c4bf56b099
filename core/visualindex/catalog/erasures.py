"""Erasing originals that no image needs any more, without losing one that was just uploaded again.

Originals are shared by content, so deleting an image only asks for the erasure. The sweep decides, and it and the writers
exclude each other by a lock per digest: writers share it until they commit, the sweep has it alone while it erases.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run

EnsureObjects = Callable[[bytes], Awaitable[None]]
"""Called with a digest: makes sure that the original is in the object store."""
EraseObjects = Callable[[str, bytes], Awaitable[None]]
"""Called with index and digest: deletes what is stored of an original; must bear a repeat."""

_Original = tuple[str, bytes]
_Step = Callable[[Connection, str, bytes], Awaitable[bool]]
_STRIPES = 256  # locks per digest would overflow Postgres' lock table on a large bulk write
_NAMESPACE = 0x6572
_log = logging.getLogger(__name__)


class Erasures:
    """The sweep over the requested erasures."""

    connections: Connections

    async def sweep_erasures(self, erase: EraseObjects, indexes: Collection[str], *, limit: int = 100) -> int:
        """Erases at most `limit` originals of `indexes` that no image of their index refers to; returns how many it erased.

        `erase` deletes an original and what is derived from it. One that fails goes to the end of the queue. The mark of an
        erasure stays until `forget_erasures`.
        """
        waiting = """SELECT index_name, content_digest FROM erasures WHERE erased_at IS NULL AND index_name = ANY(%s)
            ORDER BY requested_at LIMIT %s"""
        wanted = await self._listed(waiting, list(indexes), limit)
        erased, failed = await self._each("erasing", wanted, partial(_erase_unreferenced, erase=erase))
        if failed:
            await self._postpone(failed)
        return erased

    async def forget_erasures(
        self,
        erase_derived: EraseObjects,
        indexes: Collection[str],
        *,
        limit: int = 100,
        keep_s: float = 86_400.0,
    ) -> int:
        """Ends at most `limit` marks of erasures of `indexes` after `keep_s` seconds; returns how many.

        `keep_s` must be longer than any upload takes. `erase_derived` deletes what is derived from an original once more:
        whoever made it at the time of the erasure may have been killed before deleting it. It must leave the original,
        which may have been stored again for a write that has not committed yet.
        """
        # In any order, so that those that always fail keep nobody waiting.
        due = """SELECT index_name, content_digest FROM erasures WHERE index_name = ANY(%s)
            AND erased_at < now() - make_interval(secs => %s) ORDER BY random() LIMIT %s"""
        wanted = await self._listed(due, list(indexes), keep_s, limit)
        step = partial(_forget, keep_s=keep_s, erase_derived=erase_derived)
        forgotten, _ = await self._each("forgetting", wanted, step)
        return forgotten

    async def _listed(self, query: str, *values: object) -> list[_Original]:
        async def listed(connection: Connection) -> list[_Original]:
            return [(index, digest) for index, digest in await rows(connection, query, *values)]

        return await self.connections.read(listed)

    async def _each(self, what: str, wanted: Sequence[_Original], step: _Step) -> tuple[int, list[_Original]]:
        """Takes the step for each in a transaction of its own: how many it was taken for, and those that failed."""
        taken, failed, errors = 0, list[_Original](), list[Exception]()
        for index, digest in wanted:

            async def work(transaction: Transaction, index: str = index, digest: bytes = digest) -> bool:
                return await step(transaction.connection, index, digest)

            try:
                taken += await self.connections.write(work)
            except Exception as error:  # a store may fail in any way; the others must be tried
                failed.append((index, digest))
                errors.append(error)
        if failed:
            index, digest = failed[0]
            text = "%s %d originals failed and will be tried again; the first is %s of index %s"
            _log.error(text, what, len(failed), digest.hex(), index, exc_info=errors[0])
        return taken, failed

    async def _postpone(self, wanted: Sequence[_Original]) -> None:
        """Moves the erasures behind all others, so that those that always fail keep nobody waiting."""
        query = """UPDATE erasures SET requested_at = now() FROM unnest(%s::text[], %s::bytea[]) AS f (i, d)
            WHERE index_name = f.i AND content_digest = f.d AND erased_at IS NULL"""

        async def work(transaction: Transaction) -> int:
            return await run(transaction.connection, query, [i for i, _ in wanted], [d for _, d in wanted])

        await self.connections.write(work)


async def request(connection: Connection, index: str, digests: Collection[bytes]) -> None:
    """Asks for the erasure of originals that an image gave up; the sweep looks whether another one needs them."""
    if not digests:
        return
    await run(
        connection,
        """INSERT INTO erasures (index_name, content_digest) SELECT %s, d FROM unnest(%s::bytea[]) AS d ORDER BY d
           ON CONFLICT (index_name, content_digest) DO UPDATE SET requested_at = now(), erased_at = NULL""",
        *(index, list(digests)),
    )


async def hold_originals(
    connection: Connection, index: str, digests: Collection[bytes], ensure: EnsureObjects | None
) -> None:
    """Keeps the sweep off `digests` until the transaction ends, and restores those that it may have erased."""
    for stripe in sorted({_stripe(digest) for digest in digests}):
        await run(connection, "SELECT pg_advisory_xact_lock_shared(%s::int, %s::int)", _NAMESPACE, stripe)
    cancelled = await rows(
        connection,
        "DELETE FROM erasures WHERE index_name = %s AND content_digest = ANY(%s) RETURNING content_digest",
        *(index, list(digests)),
    )
    if ensure is not None:
        for (digest,) in cancelled:
            await ensure(digest)


async def _erase_unreferenced(connection: Connection, index: str, digest: bytes, erase: EraseObjects) -> bool:
    await run(connection, "SELECT pg_advisory_xact_lock(%s::int, %s::int)", _NAMESPACE, _stripe(digest))
    waiting = await rows(
        connection,
        """SELECT EXISTS (SELECT FROM images WHERE index_name = %s AND content_digest = %s) FROM erasures
           WHERE index_name = %s AND content_digest = %s AND erased_at IS NULL FOR UPDATE""",
        *(index, digest, index, digest),
    )
    if not waiting:
        return False
    if waiting[0][0]:
        await run(
            connection, "DELETE FROM erasures WHERE index_name = %s AND content_digest = %s", index, digest
        )
        return False
    await erase(index, digest)
    mark = "UPDATE erasures SET erased_at = now() WHERE index_name = %s AND content_digest = %s"
    await run(connection, mark, index, digest)
    return True


async def _forget(
    connection: Connection, index: str, digest: bytes, keep_s: float, erase_derived: EraseObjects
) -> bool:
    query = """DELETE FROM erasures WHERE index_name = %s AND content_digest = %s
        AND erased_at < now() - make_interval(secs => %s)"""
    if not await run(connection, query, index, digest, keep_s):
        return False
    await erase_derived(index, digest)
    return True


def _stripe(digest: bytes) -> int:
    return digest[0] % _STRIPES
