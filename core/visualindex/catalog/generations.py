"""Which generations an index has and which one is served: Postgres alone says so.

A generation is activated in two phases. `prepare` asks the shards to load it; once every one of them has, `activate`
makes it the active one in one transaction. The one before is kept for a rollback, which is an activation like any other:
whatever is wanted is `preparing`, one at a time, and the last wish is the one that holds.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, one, rows, run
from visualindex.catalog.index_encoders import is_held, why_not_switched
from visualindex.catalog.jobs import Fence, check_fence
from visualindex.catalog.positions import Position
from visualindex.catalog.shadows import LIVE_SHADOW
from visualindex.errors import ProblemError, ProblemType

State = Literal["ready", "preparing", "active", "kept", "failed", "retired", "gone"]
LOADED: tuple[State, ...] = ("active", "preparing", "kept")
"""States of the generations that shards hold."""
REFUSED = "refused"
"""The gate's verdict on a generation that is activated by force only."""
_ENDED = ("retired", "gone")
_SERVED = "(state IN ('active', 'kept') OR state = 'preparing' AND activated_at IS NOT NULL)"
"""Searches may be pinned to it: it is active or was, also while it is wanted again."""
_GIVEN_UP = "CASE WHEN activated_at IS NULL THEN '{}' ELSE 'kept' END"
"""The state of one that is no longer prepared: one that was active before stays for another rollback."""
_ROLLED_BACK = """WITH w AS (SELECT * FROM generations WHERE index_name = %s AND state IN ('preparing', 'active')
        ORDER BY state = 'preparing' DESC LIMIT 1)
    SELECT asked_at FROM w WHERE asked_at IS NOT NULL AND EXISTS (SELECT FROM generations o
        WHERE o.index_name = w.index_name AND o.activated_at IS NOT NULL AND o.created_at > w.created_at
        AND (o.state <> ALL(%s) OR o.fingerprint IS NOT DISTINCT FROM w.fingerprint))"""
"""When people asked for what is wanted now, if a later one was active: also one that is gone, which would be built again."""


@dataclass(frozen=True)
class GenerationRecord:
    """A generation as the catalog has it. `watermark` is where its shards go on in the change log."""

    index: str
    generation: str
    state: State
    fingerprint: str
    manifest: Mapping[str, Any]
    watermark: Position
    created_at: datetime
    activated_at: datetime | None
    problem: str | None
    gate: Mapping[str, Any] | None = None
    """What the quality gate measured (`visualindex.api.gate.GateReport`); None for one that was not judged."""
    shadow: Mapping[str, Any] | None = None
    """How it answered searches beside the active one (`visualindex.api.gate.ShadowReport`); None where it never did."""

    @property
    def refused(self) -> bool:
        """Whether the gate found it worse than its limits allow."""
        return self.gate is not None and self.gate.get("verdict") == REFUSED


@dataclass(frozen=True)
class Searchable:
    """What searches of an index may be pinned to: a generation (empty: the catalog's rows) and the space of its vectors."""

    generation: str
    fingerprint: str
    dimension: int


_COLUMNS = """generation, state, coalesce(fingerprint, ''), manifest, watermark::text, created_at, activated_at, problem,
    gate, shadow, (SELECT value FROM meta WHERE key = 'epoch')"""


class Generations:
    """Proposes, activates and retires generations."""

    connections: Connections

    async def propose_generation(
        self,
        index: str,
        generation: str,
        fingerprint: str,
        manifest: Mapping[str, Any],
        watermark: Position,
        *,
        fence: Fence | None = None,
    ) -> None:
        """Notes a generation that is in the object store. One that is there already stays as it is, unless it ended.

        A job shows its `fence`: ProblemError CONFLICT when it is no longer the caller's. Raises ProblemError UNAVAILABLE
        when the database was restored since the watermark was read: build again.
        """
        query = """INSERT INTO generations (index_name, generation, state, fingerprint, manifest, watermark)
            VALUES (%s, %s, 'ready', %s, %s, %s::text::pg_snapshot)
            ON CONFLICT (index_name, generation) DO UPDATE SET state = 'ready', problem = NULL, ended_at = NULL, gate = NULL,
                activated_at = NULL, asked_at = NULL, shadow = NULL, watermark = excluded.watermark,
                manifest = excluded.manifest
            WHERE generations.state IN ('failed', 'retired', 'gone')"""

        async def work(transaction: Transaction) -> None:
            if watermark.epoch != transaction.epoch:
                detail = f"the database was restored while generation {generation} was built: build it again"
                raise ProblemError(ProblemType.UNAVAILABLE, detail)
            await check_fence(transaction.connection, fence)
            document = Jsonb(dict(manifest))
            await run(
                transaction.connection,
                query,
                *(index, generation, fingerprint, document, watermark.snapshot),
            )

        await self.connections.write(work)

    async def list_generations(self, index: str, *, ended: bool = False) -> list[GenerationRecord]:
        """The generations of an index, the newest first; with `ended` also those that are no longer there."""
        query = f"""SELECT {_COLUMNS} FROM generations WHERE index_name = %s AND (%s OR state <> ALL(%s))
            ORDER BY created_at DESC, generation"""  # noqa: S608 (constants)

        async def work(connection: Connection) -> list[GenerationRecord]:
            return [_record(index, row) for row in await rows(connection, query, index, ended, list(_ENDED))]

        return await self.connections.read(work)

    async def get_generation(self, index: str, generation: str) -> GenerationRecord:
        """A generation; ProblemError NOT_FOUND."""
        query = f"SELECT {_COLUMNS} FROM generations WHERE index_name = %s AND generation = %s"  # noqa: S608

        async def work(connection: Connection) -> GenerationRecord:
            found = await rows(connection, query, index, generation)
            if not found:
                raise _no_generation(index, generation)
            return _record(index, found[0])

        return await self.connections.read(work)

    async def loaded_generations(self, index: str) -> list[GenerationRecord]:
        """Those that shards hold: the active one first, then one that is being prepared, those kept, and a shadow."""
        query = f"""SELECT {_COLUMNS} FROM generations WHERE index_name = %s
                AND (state = ANY(%s) OR (state = 'ready' AND EXISTS ({LIVE_SHADOW})))
            ORDER BY array_position(%s, state), activated_at DESC"""  # noqa: S608 (constants)

        async def work(connection: Connection) -> list[GenerationRecord]:
            found = await rows(connection, query, index, list(LOADED), list(LOADED))
            return [_record(index, row) for row in found]

        return await self.connections.read(work)

    async def active_generations(self, indexes: Collection[str]) -> dict[str, str]:
        """The active generation of each index that has one."""
        query = (
            "SELECT index_name, generation FROM generations WHERE index_name = ANY(%s) AND state = 'active'"
        )

        async def work(connection: Connection) -> dict[str, str]:
            return dict(await rows(connection, query, list(indexes)))

        return await self.connections.read(work)

    async def searchable_generations(self, indexes: Collection[str]) -> dict[str, list[Searchable]]:
        """What each index can be searched with: first what is active, then what was before, the latest first."""
        query = f"""SELECT i.index_name, coalesce(g.generation, ''), coalesce(g.fingerprint, i.fingerprint),
                coalesce(e.dimension, i.dimension)
            FROM indexes i
            LEFT JOIN generations g ON g.index_name = i.index_name AND {_SERVED}
            LEFT JOIN index_encoders e ON e.index_name = i.index_name
                AND e.fingerprint = coalesce(g.fingerprint, i.fingerprint)
            WHERE i.index_name = ANY(%s)
            ORDER BY i.index_name, g.state IS DISTINCT FROM 'active', g.activated_at DESC"""  # noqa: S608 (constants)

        async def work(connection: Connection) -> dict[str, list[Searchable]]:
            found: dict[str, list[Searchable]] = {}
            for name, *fields in await rows(connection, query, list(indexes)):
                found.setdefault(name, []).append(Searchable(*fields))
            return found

        return await self.connections.read(work)

    async def rolled_back_at(self, index: str) -> datetime | None:
        """When people went back to an earlier generation, if they have not gone on since: it stays until they do."""

        async def work(connection: Connection) -> datetime | None:
            return await _rolled_back_at(connection, index)

        return await self.connections.read(work)

    async def note_gate(
        self,
        index: str,
        generation: str,
        report: Mapping[str, Any],
        problem: str | None,
        *,
        fence: Fence | None = None,
    ) -> None:
        """Keeps what the quality gate measured, and why it refuses the generation if it does.

        A job shows its `fence`: ProblemError CONFLICT when it is no longer the caller's.
        """
        query = """UPDATE generations SET gate = %s, problem = CASE WHEN state = 'ready' THEN %s ELSE problem END
            WHERE index_name = %s AND generation = %s"""

        async def work(transaction: Transaction) -> None:
            await check_fence(transaction.connection, fence)
            await run(transaction.connection, query, Jsonb(dict(report)), problem, index, generation)

        await self.connections.write(work)

    async def prepare_generation(
        self,
        index: str,
        generation: str,
        *,
        force: bool = False,
        judged: bool = False,
        same_encoder: bool = False,
        fence: Fence | None = None,
        since: datetime | None = None,
    ) -> State:
        """The first phase: asks the shards to load it; of several at once the last one asked for wins.

        A job shows its `fence`, and with `since` when it was asked for: a rollback that people asked for later holds, and it
        stays as it is. Without a fence it is people who ask.

        With `same_encoder` one of another encoder than the index is searched with, or about to be, stays as it is: its
        builder began before that was decided.

        One that is active takes every other wish back. Returns the state it has now. Raises ProblemError NOT_FOUND, or
        CONFLICT for one that has ended, whose encoder cannot be searched with and, without `force`, that the quality gate
        refused or, with `judged`, has not judged, or for a job that is no longer the caller's.
        """

        async def work(transaction: Transaction) -> State:
            connection = transaction.connection
            await check_fence(connection, fence)
            states = await _locked(connection, index)
            state = _present(index, generation, states)
            if since is not None and await _rolled_back_after(connection, index, since):
                return state
            if fence is None:
                await _note_asked(connection, index, generation)
            if state == "preparing" or (same_encoder and state in ("active", "kept")):
                return state
            if same_encoder and await _is_of_another(connection, index, generation):
                return state
            if state in ("ready", "failed") and not force:
                await _refuse_worse(connection, index, generation)
                if judged:
                    await _refuse_unjudged(connection, index, generation)
            if state != "active":
                await _refuse_unsearchable(connection, index, generation)
            await _take_wishes_back(connection, index)
            if state == "active":
                return state
            if state != "kept":
                await _forget_problems(connection, index, generation)
            await _set(connection, index, generation, "preparing")
            return "preparing"

        return await self.connections.write(work)

    async def activate_generation(self, index: str, generation: str) -> bool:
        """The second phase, in one transaction; False if it is the active one already, or its encoder is not everywhere yet.

        With the generation, the encoder changes that the index is searched with. Raises ProblemError NOT_FOUND, or
        CONFLICT for one that is not asked for (any more), that has ended, or whose encoder cannot be searched with.
        """

        async def work(transaction: Transaction) -> bool:
            connection = transaction.connection
            states = await _locked(connection, index)
            state = _present(index, generation, states)
            if state == "active":
                return False
            if state != "preparing":
                raise _conflict(f"generation {generation} of index {index} is {state}: prepare it first")
            if not await _switch_encoder(connection, index, generation):
                return False
            await run(
                connection,
                "UPDATE generations SET state = 'kept' WHERE index_name = %s AND state = 'active'",
                index,
            )
            await run(
                connection,
                """UPDATE generations SET state = 'active', activated_at = clock_timestamp()
                   WHERE index_name = %s AND generation = %s""",
                *(index, generation),
            )
            return True

        return await self.connections.write(work)

    async def fail_generation(self, index: str, generation: str, problem: str) -> bool:
        """Gives up preparing it, for a reason that people are told; the active one goes on.

        One that was active before is kept as it was: what keeps a shard from loading it may pass.
        """
        query = f"""UPDATE generations SET state = {_GIVEN_UP.format("failed")}, problem = %s
            WHERE index_name = %s AND generation = %s AND state = 'preparing'"""  # noqa: S608 (constants)

        async def work(transaction: Transaction) -> bool:
            return bool(await run(transaction.connection, query, problem, index, generation))

        return await self.connections.write(work)

    async def discard_generation(self, index: str, generation: str) -> None:
        """Retires one that is neither active nor being prepared. Raises ProblemError NOT_FOUND or CONFLICT."""

        async def work(transaction: Transaction) -> None:
            state = _present(index, generation, await _locked(transaction.connection, index))
            if state in ("active", "preparing"):
                remedy = "activate another one first"
                raise _conflict(f"generation {generation} of index {index} is {state}: {remedy}")
            await _end(transaction.connection, index, [generation])

        await self.connections.write(work)

    async def retire_generations(self, index: str, keep: int) -> list[str]:
        """Retires what is beyond the `keep` generations activated last, and candidates older than the active one.

        Candidates of another encoder that the index is to be searched with wait, however old; the active one and one that is
        being prepared always stay. Returns those that were retired.
        """
        query = """WITH served AS (
                SELECT generation, state, row_number() OVER (ORDER BY state <> 'active', activated_at DESC) AS place
                FROM generations WHERE index_name = %s AND state IN ('active', 'kept')
            )
            SELECT generation FROM served WHERE place > %s AND state <> 'active'
            UNION ALL
            SELECT generation FROM generations g WHERE index_name = %s AND state IN ('ready', 'failed') AND (created_at <
                (SELECT max(created_at) FROM generations WHERE index_name = %s AND state = 'active')
                OR EXISTS (SELECT FROM index_encoders e WHERE e.index_name = g.index_name
                    AND e.fingerprint = g.fingerprint AND e.state = 'leaving'))
                AND NOT EXISTS (SELECT FROM index_encoders e JOIN indexes i USING (index_name)
                    WHERE e.index_name = g.index_name AND e.fingerprint = g.fingerprint
                    AND e.fingerprint <> i.fingerprint AND e.state <> 'leaving')"""

        async def work(transaction: Transaction) -> list[str]:
            connection = transaction.connection
            await _locked(connection, index)
            old = [name for (name,) in await rows(connection, query, index, max(1, keep), index, index)]
            await _end(connection, index, old)
            return old

        return await self.connections.write(work)

    async def retired_generations(self, index: str, quiet_s: float) -> tuple[list[str], list[str]]:
        """The retired ones whose objects may go, and all others, whose objects must stay.

        One may go `quiet_s` seconds after its end, when no live replica has it loaded any more.
        """
        query = """SELECT generation, state = 'retired' AND ended_at < now() - make_interval(secs => %s)
                AND NOT EXISTS (SELECT FROM replicas r WHERE r.index_name = g.index_name AND r.lease_until > now()
                    AND g.generation = ANY(r.generations))
            FROM generations g WHERE index_name = %s AND state <> 'gone'"""

        async def work(connection: Connection) -> tuple[list[str], list[str]]:
            found = await rows(connection, query, quiet_s, index)
            return [name for name, goes in found if goes], [name for name, goes in found if not goes]

        return await self.connections.read(work)

    async def forget_generation(self, index: str, generation: str) -> None:
        """Notes that the objects of a retired generation are gone."""
        query = "UPDATE generations SET state = 'gone' WHERE index_name = %s AND generation = %s AND state = 'retired'"

        async def work(transaction: Transaction) -> None:
            await run(transaction.connection, query, index, generation)

        await self.connections.write(work)


async def _locked(connection: Connection, index: str) -> dict[str, State]:
    """The states of an index's generations; whoever changes them takes turns."""
    await one(connection, "SELECT index_name FROM indexes WHERE index_name = %s FOR UPDATE", index)
    query = "SELECT generation, state FROM generations WHERE index_name = %s"
    return dict(await rows(connection, query, index))


def _present(index: str, generation: str, states: Mapping[str, State]) -> State:
    if generation not in states:
        raise _no_generation(index, generation)
    state = states[generation]
    if state in _ENDED:
        raise _conflict(f"generation {generation} of index {index} is {state}: its files are no longer kept")
    return state


async def _refuse_worse(connection: Connection, index: str, generation: str) -> None:
    query = "SELECT problem FROM generations WHERE index_name = %s AND generation = %s AND gate ->> 'verdict' = %s"
    for (problem,) in await rows(connection, query, index, generation, REFUSED):
        why = problem or "the quality gate refused it"
        raise _conflict(
            f"generation {generation} of index {index} is not activated: {why}. Look at its report and discard it, "
            "or activate it by force"
        )


async def _refuse_unjudged(connection: Connection, index: str, generation: str) -> None:
    """Raise ProblemError CONFLICT for one whose job has not come to its judgement: it runs, failed or was cancelled."""
    query = "SELECT 1 FROM generations WHERE index_name = %s AND generation = %s AND gate IS NULL"
    if await rows(connection, query, index, generation):
        raise _conflict(
            f"generation {generation} of index {index} is not activated: the quality gate has not judged it. Wait for its "
            "job, resume one that failed, or build another; or activate it by force"
        )


async def _is_of_another(connection: Connection, index: str, generation: str) -> bool:
    """Whether a generation is of another encoder than the one that is searched with, or that shards load a generation of."""
    query = """SELECT EXISTS (SELECT FROM generations o WHERE o.index_name = g.index_name AND o.state = 'preparing'
                AND o.fingerprint <> g.fingerprint) OR i.fingerprint <> coalesce(g.fingerprint, i.fingerprint)
        FROM generations g JOIN indexes i USING (index_name) WHERE g.index_name = %s AND g.generation = %s"""
    return bool((await one(connection, query, index, generation))[0])


async def _take_wishes_back(connection: Connection, index: str) -> None:
    query = f"""UPDATE generations SET state = {_GIVEN_UP.format("ready")}
        WHERE index_name = %s AND state = 'preparing'"""  # noqa: S608 (constants)
    await run(connection, query, index)


async def _forget_problems(connection: Connection, index: str, generation: str) -> None:
    """What kept shards from loading it the last time must not end this time before it began."""
    query = "UPDATE replicas SET problem = NULL WHERE index_name = %s AND strpos(problem, %s) > 0"
    await run(connection, query, index, f"{generation}: ")


async def _refuse_unsearchable(connection: Connection, index: str, generation: str) -> None:
    """Raise ProblemError CONFLICT for one of an encoder that the index cannot be searched with."""
    wanted, present = await _encoders(connection, index, generation)
    problem = None if wanted == present else await why_not_switched(connection, index, wanted)
    if problem is not None:
        raise _conflict(f"generation {generation} of index {index} cannot be activated: {problem}")


async def _encoders(connection: Connection, index: str, generation: str) -> tuple[str, str]:
    """Fingerprints: of the generation's vectors, and of the encoder that the index is searched with."""
    query = """SELECT coalesce(g.fingerprint, i.fingerprint), i.fingerprint
        FROM generations g JOIN indexes i USING (index_name) WHERE g.index_name = %s AND g.generation = %s"""
    wanted, present = await one(connection, query, index, generation)
    return wanted, present


async def _switch_encoder(connection: Connection, index: str, generation: str) -> bool:
    """Have the index searched with the encoder of a generation that becomes active; False while a gateway lacks it.

    Raises ProblemError CONFLICT where that cannot be.
    """
    wanted, present = await _encoders(connection, index, generation)
    if wanted == present:
        return True
    await _refuse_unsearchable(connection, index, generation)
    if not await is_held(connection, index, wanted):
        return False
    change = """UPDATE indexes i SET first_fingerprint = coalesce(first_fingerprint, i.fingerprint),
            fingerprint = e.fingerprint, dimension = e.dimension
        FROM index_encoders e WHERE i.index_name = %s AND e.index_name = i.index_name AND e.fingerprint = %s"""
    await run(connection, change, index, wanted)
    return True


async def _rolled_back_at(connection: Connection, index: str) -> datetime | None:
    found = await rows(connection, _ROLLED_BACK, index, list(_ENDED))
    return found[0][0] if found else None


async def _rolled_back_after(connection: Connection, index: str, moment: datetime) -> bool:
    rolled_back = await _rolled_back_at(connection, index)
    return rolled_back is not None and rolled_back > moment


async def _note_asked(connection: Connection, index: str, generation: str) -> None:
    query = "UPDATE generations SET asked_at = clock_timestamp() WHERE index_name = %s AND generation = %s"
    await run(connection, query, index, generation)


async def _set(connection: Connection, index: str, generation: str, state: State) -> None:
    query = "UPDATE generations SET state = %s, problem = NULL WHERE index_name = %s AND generation = %s"
    await run(connection, query, state, index, generation)


async def _end(connection: Connection, index: str, generations: list[str]) -> None:
    query = """UPDATE generations SET state = 'retired', ended_at = clock_timestamp()
        WHERE index_name = %s AND generation = ANY(%s)"""
    await run(connection, query, index, generations)


def _record(index: str, row: TupleRow) -> GenerationRecord:
    (
        generation,
        state,
        fingerprint,
        manifest,
        watermark,
        created_at,
        activated_at,
        problem,
        gate,
        shadow,
        epoch,
    ) = row
    return GenerationRecord(
        index,
        generation,
        state,
        fingerprint,
        manifest,
        Position.of_snapshot(int(epoch), watermark),
        created_at,
        activated_at,
        problem,
        gate,
        shadow,
    )


def _no_generation(index: str, generation: str) -> ProblemError:
    return ProblemError(ProblemType.NOT_FOUND, f"index {index} has no generation {generation}")


def _conflict(detail: str) -> ProblemError:
    return ProblemError(ProblemType.CONFLICT, detail)
