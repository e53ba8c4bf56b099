"""Keys that are declared elsewhere, a directory that a Secret is mounted in: the catalog is made to hold just those.

A key remembers the index that declares it, so that keys made by hand are never touched.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run
from visualindex.catalog.keys import KEY_COLUMNS, KeyRecord, key_digest, key_of
from visualindex.errors import ProblemError, ProblemType

_LOCK = 0x76_69_6B_65  # any constant: it only has to differ from the locks of migrations and erasures


@dataclass(frozen=True)
class DeclaredKey:
    """One key that an index shall have. `name` is the name of its file."""

    name: str
    digest: bytes
    scopes: tuple[str, ...]
    filter: Mapping[str, Any] | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, name: str, plaintext: str, scopes: Sequence[str], **rest: Any) -> "DeclaredKey":
        """The declaration without the key's text: nothing from here on can show it."""
        return cls(name, key_digest(plaintext), tuple(scopes), **rest)


@dataclass(frozen=True)
class KeyChanges:
    """Names of the keys that were added, updated, revoked, and left as they were."""

    added: tuple[str, ...]
    updated: tuple[str, ...]
    revoked: tuple[str, ...]
    unchanged: tuple[str, ...]


class ManagedKeys:
    """Makes the declared keys of an index its managed keys."""

    connections: Connections

    async def sync_keys(self, index: str, declared: Sequence[DeclaredKey]) -> KeyChanges:
        """Adds, updates and revokes managed keys of `index` until they are those `declared`, in one transaction.

        ProblemError INVALID_REQUEST when a key text is declared twice, is another index's or was made or revoked by hand;
        nothing is changed then.
        """
        _refuse_twins(declared)

        async def work(transaction: Transaction) -> KeyChanges:
            await run(transaction.connection, "SELECT pg_advisory_xact_lock(%s)", _LOCK)
            return await _sync(transaction.connection, index, declared)

        return await self.connections.write(work)


async def _sync(connection: Connection, index: str, declared: Sequence[DeclaredKey]) -> KeyChanges:
    present = await _present(connection, index, declared)
    for key in declared:
        _refuse_foreign(index, key, present.get(key.digest))
    added = [key for key in declared if key.digest not in present]
    known = [(key, present[key.digest]) for key in declared if key.digest in present]
    changed = [key for key, record in known if not _as_declared(index, key, record)]
    for key in added:
        await _add(connection, index, key)
    for key in changed:
        await _update(connection, index, key)
    return KeyChanges(
        _names(added),
        _names(changed),
        await _revoke_others(connection, index, [key.digest for key in declared]),
        _names(key for key, _ in known if key not in changed),
    )


async def _present(
    connection: Connection, index: str, declared: Iterable[DeclaredKey]
) -> dict[bytes, KeyRecord]:
    query = f"""SELECT secret_digest, {KEY_COLUMNS} FROM api_keys
        WHERE managed_by = %s OR secret_digest = ANY(%s)"""  # noqa: S608 (constants)
    found = await rows(connection, query, index, [key.digest for key in declared])
    return {digest: key_of(*record) for digest, *record in found}


async def _add(connection: Connection, index: str, key: DeclaredKey) -> None:
    await run(
        connection,
        """INSERT INTO api_keys (key_id, secret_digest, name, scopes, indexes, filter, expires_at, managed_by)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        *(uuid.uuid4(), key.digest, *_columns(index, key)),
    )


async def _update(connection: Connection, index: str, key: DeclaredKey) -> None:
    await run(
        connection,
        """UPDATE api_keys SET name = %s, scopes = %s, indexes = %s, filter = %s, expires_at = %s, managed_by = %s,
           revoked_at = NULL WHERE secret_digest = %s""",
        *(*_columns(index, key), key.digest),
    )


async def _revoke_others(connection: Connection, index: str, declared: Collection[bytes]) -> tuple[str, ...]:
    query = """UPDATE api_keys SET revoked_at = now() WHERE managed_by = %s AND revoked_at IS NULL
        AND secret_digest <> ALL(%s) RETURNING name"""
    return tuple(sorted(name for (name,) in await rows(connection, query, index, list(declared))))


def _columns(index: str, key: DeclaredKey) -> tuple[Any, ...]:
    bound = None if key.filter is None else Jsonb(dict(key.filter))
    return key.name, list(key.scopes), [index], bound, key.expires_at, index


def _as_declared(index: str, key: DeclaredKey, record: KeyRecord) -> bool:
    stored = (record.name, record.scopes, record.filter, record.expires_at)
    return (
        record.managed_by == index
        and record.revoked_at is None
        and stored == (key.name, key.scopes, key.filter, key.expires_at)
    )


def _refuse_twins(declared: Iterable[DeclaredKey]) -> None:
    seen = dict[bytes, str]()
    for key in declared:
        if key.digest in seen:
            raise _refused(f"files {seen[key.digest]} and {key.name} hold the same key: remove one")
        seen[key.digest] = key.name


def _refuse_foreign(index: str, key: DeclaredKey, record: KeyRecord | None) -> None:
    if record is None or record.managed_by == index:
        return
    if record.managed_by is not None:
        if record.revoked_at is None:
            raise _refused(
                f"the key in file {key.name} of index {index} is already key {record.name} of index {record.managed_by}: "
                "put another key into one of them"
            )
        return
    what = "was revoked by hand" if record.revoked_at else "was made by `visualindex keys create`"
    raise _refused(
        f"the key in file {key.name} of index {index} {what} (as {record.name}, {record.key_id}): put a new key there"
    )


def _refused(detail: str) -> ProblemError:
    return ProblemError(ProblemType.INVALID_REQUEST, detail)


def _names(keys: Iterable[DeclaredKey]) -> tuple[str, ...]:
    return tuple(sorted(key.name for key in keys))
