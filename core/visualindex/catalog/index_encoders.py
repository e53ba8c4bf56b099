"""The encoders of an index: the one it is searched with, and while it moves to another, that one as well.

A gateway enters the encoder that its spec names and says again and again which ones it holds. An encoder that every
gateway holds becomes required: from then on a write without its vector is refused, so that what a rebuild has completed
stays complete. What nothing needs any more leaves, and its vectors go.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, one, rows, run
from visualindex.catalog.indexes import IndexRecord
from visualindex.catalog.jobs import Fence, check_fence
from visualindex.errors import ProblemError, ProblemType

EncoderState = Literal["joining", "required", "leaving"]


@dataclass(frozen=True)
class EncoderRecord:
    """An encoder of an index. `settings` are the sections of the spec that load it; `complete` says that every image has
    its vector."""

    fingerprint: str
    dimension: int
    settings: Mapping[str, Any]
    state: EncoderState
    complete: bool
    problem: str | None
    searched: bool
    """Whether searches use it now."""
    named: bool
    """Whether the spec of a live gateway names it."""
    generations: Sequence[str]
    """Those of its vectors that are there, the newest first."""
    held_by: int
    """Live gateways that hold it."""
    gateways: int
    """All live gateways."""


_LIVE = "w.index_name = e.index_name AND w.lease_until > now()"
_ENCODERS = f"""SELECT e.fingerprint, e.dimension, e.settings, e.state, e.complete, e.problem,
        e.fingerprint = i.fingerprint,
        EXISTS (SELECT FROM gateways w WHERE {_LIVE} AND w.names = e.fingerprint),
        ARRAY(SELECT generation FROM generations g WHERE g.index_name = e.index_name AND g.fingerprint = e.fingerprint
            AND g.state NOT IN ('retired', 'gone') ORDER BY g.created_at DESC),
        (SELECT count(*) FROM gateways w WHERE {_LIVE} AND e.fingerprint = ANY(w.holds))::int,
        (SELECT count(*) FROM gateways w WHERE {_LIVE})::int
    FROM index_encoders e JOIN indexes i USING (index_name) WHERE e.index_name = %s ORDER BY e.entered_at, e.fingerprint"""  # noqa: S608 (constants)
_REQUIRE = f"""UPDATE index_encoders e SET state = 'required', problem = NULL
    WHERE e.index_name = %s AND e.state = 'joining' AND EXISTS (SELECT FROM gateways w WHERE {_LIVE})
        AND NOT EXISTS (SELECT FROM gateways w WHERE {_LIVE} AND NOT e.fingerprint = ANY(w.holds))
    RETURNING fingerprint"""  # noqa: S608 (constants)
# A gateway that goes away in order is gone at once; one that is silent may only be slow, and to make vectors anew is dear.
_NAMED = "w.index_name = e.index_name AND w.names = e.fingerprint AND w.lease_until > now() - interval '10 minutes'"
# A job may be making vectors of an encoder that no gateway's spec names: that of a RayJob, which has its own.
_LEAVE = f"""UPDATE index_encoders e SET state = 'leaving', complete = false
    WHERE e.index_name = %s AND e.state <> 'leaving'
        AND EXISTS (SELECT FROM gateways w WHERE {_LIVE})
        AND NOT EXISTS (SELECT FROM gateways w WHERE {_NAMED})
        AND NOT EXISTS (SELECT FROM indexes i WHERE i.index_name = e.index_name AND i.fingerprint = e.fingerprint)
        AND NOT EXISTS (SELECT FROM generations g WHERE g.index_name = e.index_name AND g.fingerprint = e.fingerprint
            AND g.state IN ('preparing', 'active', 'kept'))
        AND NOT EXISTS (SELECT FROM jobs j WHERE j.index_name = e.index_name AND j.kind = 'reindex'
            AND j.state IN ('queued', 'running', 'paused'))
    RETURNING fingerprint"""  # noqa: S608 (constants)


class LacksVectorError(ProblemError):
    """A write has no vector of an encoder that every write must bring: whoever sent it does not hold that one yet."""


class IndexEncoders:
    """Enters encoders, follows who holds them, and lets them go."""

    connections: Connections

    async def enter_encoder(
        self,
        index: str,
        fingerprint: str,
        dimension: int,
        settings: Mapping[str, Any],
        *,
        fence: Fence | None = None,
        served: bool = True,
        adopt: bool = True,
    ) -> IndexRecord:
        """Notes an encoder that an index is to be served with, creating the index if need be.

        An empty index takes it at once, unless it is only entered again (not `adopt`): two gateways that name different
        encoders would else take turns.

        Returns the index with the encoder that it is searched with. For a gateway, which must have that one as well
        (`served`), raises ProblemError FINGERPRINT_MISMATCH where nobody knows how to load it: a release that did not
        note it made the index.
        """
        wanted = IndexRecord(index, fingerprint, dimension)

        async def work(transaction: Transaction) -> IndexRecord:
            connection = transaction.connection
            await check_fence(connection, fence)
            record = await _searched(connection, wanted, adopt=adopt)
            await _enter(connection, wanted, settings, same=record.fingerprint == fingerprint)
            if served and record.fingerprint != fingerprint:
                await _refuse_unknown(connection, record, wanted)
            return record

        return await self.connections.write(work)

    async def index_encoders(self, index: str) -> list[EncoderRecord]:
        """The encoders of an index, in the order in which they came."""
        return await self.connections.read(lambda connection: read_encoders(connection, index))

    async def hold_encoders(
        self, index: str, gateway: str, names: str, holds: Collection[str], lease_s: float
    ) -> None:
        """A gateway says that it lives, for so many seconds, what its spec names and what it holds."""
        query = """INSERT INTO gateways (index_name, gateway, names, holds, lease_until)
            VALUES (%s, %s, %s, %s::text[], clock_timestamp() + make_interval(secs => %s))
            ON CONFLICT (index_name, gateway) DO UPDATE SET names = excluded.names, holds = excluded.holds,
                lease_until = excluded.lease_until"""

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, index, gateway, names, sorted(holds), lease_s)

        await self.connections.write(work)

    async def release_gateway(self, index: str, gateway: str) -> None:
        """A gateway goes away in order: nothing waits for it."""
        query = "DELETE FROM gateways WHERE index_name = %s AND gateway = %s"

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, index, gateway)

        await self.connections.write(work)

    async def settle_encoders(self, index: str) -> tuple[list[str], list[str]]:
        """Requires what every live gateway holds, and lets go of what nothing needs; returns both."""

        async def work(transaction: Transaction) -> tuple[list[str], list[str]]:
            connection = transaction.connection
            await _locked(connection, index)
            required = [name for (name,) in await rows(connection, _REQUIRE, index)]
            leaving = [name for (name,) in await rows(connection, _LEAVE, index)]
            gone = "DELETE FROM gateways WHERE index_name = %s AND lease_until < now() - interval '1 day'"
            await run(connection, gone, index)
            return required, leaving

        return await self.connections.write(work)

    async def give_up_encoder(self, index: str, fingerprint: str, problem: str) -> None:
        """Notes that a gateway cannot load it, unless searches use it: writes go on without its vectors."""
        query = """UPDATE index_encoders e SET state = 'joining', complete = false, problem = %s
            WHERE index_name = %s AND fingerprint = %s AND state <> 'leaving'
            AND NOT EXISTS (SELECT FROM indexes i WHERE i.index_name = e.index_name AND i.fingerprint = e.fingerprint)"""

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, problem, index, fingerprint)

        await self.connections.write(work)

    async def complete_encoder(self, index: str, fingerprint: str, *, fence: Fence | None = None) -> bool:
        """Notes that every image has its vector, as a look that began after it was required has shown; False if it is
        not required."""
        query = """UPDATE index_encoders SET complete = true
            WHERE index_name = %s AND fingerprint = %s AND state = 'required'"""

        async def work(transaction: Transaction) -> bool:
            await check_fence(transaction.connection, fence)
            return bool(await run(transaction.connection, query, index, fingerprint))

        return await self.connections.write(work)

    async def forget_vectors(self, index: str, limit: int = 10_000) -> int:
        """Deletes vectors of encoders that left, at most `limit` of each; the encoder itself once none is left."""
        query = """DELETE FROM image_embeddings WHERE (index_name, image_id, region, fingerprint) IN (
            SELECT index_name, image_id, region, fingerprint FROM image_embeddings
            WHERE index_name = %s AND fingerprint = %s LIMIT %s)"""
        done = "DELETE FROM index_encoders WHERE index_name = %s AND fingerprint = %s AND state = 'leaving'"
        leaving = "SELECT fingerprint FROM index_encoders WHERE index_name = %s AND state = 'leaving'"

        async def work(transaction: Transaction) -> int:
            connection, count = transaction.connection, 0
            await _locked(connection, index)  # or it might be entered again meanwhile
            for (fingerprint,) in await rows(connection, leaving, index):
                gone = await run(connection, query, index, fingerprint, limit)
                count += gone
                if gone < limit:
                    await run(connection, done, index, fingerprint)
            return count

        return await self.connections.write(work)


async def read_encoders(connection: Connection, index: str) -> list[EncoderRecord]:
    """`IndexEncoders.index_encoders` on an open connection."""
    return [EncoderRecord(*row) for row in await rows(connection, _ENCODERS, index)]


async def why_not_switched(connection: Connection, index: str, fingerprint: str) -> str | None:
    """Why an index cannot be searched with the vectors of an encoder now; None if it can. Within a transaction."""
    query = "SELECT state, complete, problem FROM index_encoders WHERE index_name = %s AND fingerprint = %s"
    found = await rows(connection, query, index, fingerprint)
    if not found:
        return (
            f"its encoder {fingerprint} is not served any more and its vectors are gone: name that encoder in the spec "
            f"and rebuild (`visualindex jobs run reindex {index} --activate`)"
        )
    state, complete, problem = found[0]
    if state == "leaving":
        return (
            f"its encoder {fingerprint} is named by no spec any more and its vectors go: name that encoder in the spec and "
            f"rebuild (`visualindex jobs run reindex {index} --activate`)"
        )
    if problem is not None:
        return f"its encoder {fingerprint} cannot be loaded: {problem}"
    if state == "required" and not complete:
        return (
            f"images were written without a vector of its encoder {fingerprint}: rebuild with the spec that names it "
            f"(`visualindex jobs run reindex {index} --activate`)"
        )
    return None


async def is_held(connection: Connection, index: str, fingerprint: str) -> bool:
    """Whether every live gateway can encode with it, and every write does. Within a transaction."""
    query = f"""SELECT e.state = 'required' AND NOT EXISTS (
            SELECT FROM gateways w WHERE {_LIVE} AND NOT e.fingerprint = ANY(w.holds))
        FROM index_encoders e WHERE e.index_name = %s AND e.fingerprint = %s"""  # noqa: S608 (constants)
    found = await rows(connection, query, index, fingerprint)
    return bool(found and found[0][0])


async def check_written(
    connection: Connection, index: str, embeddings: Sequence[Collection[tuple[int, str]]]
) -> None:
    """Raises LacksVectorError for a write that brings vectors, but not of every encoder that is required.

    A write without any leaves those that are there. While an encoder joins, its row is held: whoever requires it waits
    until this write is over, and finds what it brought.
    """
    query = "SELECT fingerprint, state FROM index_encoders WHERE index_name = %s AND state <> 'leaving'"
    found = await rows(connection, query, index)
    if any(state == "joining" for _, state in found):
        found = await rows(connection, f"{query} FOR SHARE", index)
    required = {fingerprint for fingerprint, state in found if state == "required"}
    for each in embeddings:
        missing = required - {fingerprint for region, fingerprint in each if region == 0}
        if each and missing:
            detail = (
                f"index {index} is served with encoder {', '.join(sorted(missing))} as well, and this image was not "
                "encoded with it: send it again"
            )
            raise LacksVectorError(ProblemType.UNAVAILABLE, detail, retry_after_s=1.0)


async def _locked(connection: Connection, index: str) -> None:
    await rows(connection, "SELECT FROM indexes WHERE index_name = %s FOR UPDATE", index)


async def _searched(connection: Connection, wanted: IndexRecord, *, adopt: bool) -> IndexRecord:
    """The index, locked, as it is searched; an empty one is given the encoder that is wanted."""
    create = """INSERT INTO indexes (index_name, fingerprint, dimension) VALUES (%s, %s, %s)
        ON CONFLICT (index_name) DO NOTHING"""
    await run(connection, create, wanted.name, wanted.fingerprint, wanted.dimension)
    query = """SELECT index_name, fingerprint, dimension, coalesce(first_fingerprint, fingerprint),
            EXISTS (SELECT FROM image_embeddings e WHERE e.index_name = i.index_name)
                OR EXISTS (SELECT FROM generations g WHERE g.index_name = i.index_name AND state NOT IN ('retired', 'gone'))
        FROM indexes i WHERE index_name = %s FOR UPDATE"""
    *fields, used = await one(connection, query, wanted.name)
    record = IndexRecord(*fields)
    if used or not adopt or record.fingerprint == wanted.fingerprint:
        return record
    change = "UPDATE indexes SET fingerprint = %s, dimension = %s WHERE index_name = %s"
    await run(connection, change, wanted.fingerprint, wanted.dimension, wanted.name)
    await run(connection, "DELETE FROM index_encoders WHERE index_name = %s", wanted.name)
    return IndexRecord(wanted.name, wanted.fingerprint, wanted.dimension, record.first_fingerprint)


async def _enter(
    connection: Connection, wanted: IndexRecord, settings: Mapping[str, Any], *, same: bool
) -> None:
    """The encoder that an index was always searched with is complete as it is."""
    query = """INSERT INTO index_encoders (index_name, fingerprint, dimension, settings, state, complete)
        VALUES (%s, %s, %s, %s, %s, %s)
        ON CONFLICT (index_name, fingerprint) DO UPDATE SET settings = excluded.settings, problem = NULL,
            state = CASE WHEN index_encoders.state = 'leaving' THEN 'joining' ELSE index_encoders.state END"""
    state = "required" if same else "joining"
    document = Jsonb(dict(settings))
    await run(connection, query, wanted.name, wanted.fingerprint, wanted.dimension, document, state, same)


async def _refuse_unknown(connection: Connection, record: IndexRecord, wanted: IndexRecord) -> None:
    query = "SELECT FROM index_encoders WHERE index_name = %s AND fingerprint = %s"
    if not await rows(connection, query, record.name, record.fingerprint):
        detail = (
            f"index {record.name} holds vectors of encoder {record.fingerprint} ({record.dimension}-d), but the spec names "
            f"{wanted.fingerprint} ({wanted.dimension}-d), and how to load the first was never noted: start this release "
            "once with the encoder settings of before, then change them"
        )
        raise ProblemError(ProblemType.FINGERPRINT_MISMATCH, detail)
