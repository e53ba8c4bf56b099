"""API keys: 256 random bits shown once, and at rest only their digest.

A plain SHA-256 is right here: slow password hashes make guessing costly, but nobody guesses 256 random bits, and a key is
checked on every request.
"""

import hashlib
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run

PREFIX = "vi_"


@dataclass(frozen=True)
class KeyRecord:
    """What a key allows: scopes, the indexes (None is all), and a filter that is added to every search."""

    key_id: UUID
    name: str
    scopes: tuple[str, ...]
    indexes: tuple[str, ...] | None
    filter: dict[str, Any] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    managed_by: str | None
    """The index whose directory of keys declares this one; None for a key made by hand."""


KEY_COLUMNS = "key_id, name, scopes, indexes, filter, created_at, expires_at, revoked_at, managed_by"
"""What `key_of` reads."""


class Keys:
    """Creates, checks and revokes API keys."""

    connections: Connections

    async def create_key(
        self,
        scopes: Sequence[str],
        *,
        name: str,
        indexes: Sequence[str] | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 (the field's name everywhere)
        expires_at: datetime | None = None,
    ) -> tuple[str, KeyRecord]:
        """A new key: its text (`vi_…`), which is not stored and cannot be shown again, and its record."""
        plaintext = PREFIX + secrets.token_urlsafe(32)
        query = f"""INSERT INTO api_keys (key_id, name, secret_digest, scopes, indexes, filter, expires_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING {KEY_COLUMNS}"""  # noqa: S608 (constants)
        values = (
            *(
                uuid.uuid4(),
                name,
                key_digest(plaintext),
                list(scopes),
                None if indexes is None else list(indexes),
            ),
            *(None if filter is None else Jsonb(dict(filter)), expires_at),
        )

        async def work(transaction: Transaction) -> KeyRecord:
            return key_of(*(await rows(transaction.connection, query, *values))[0])

        return plaintext, await self.connections.write(work)

    async def authenticate(self, plaintext: str) -> KeyRecord | None:
        """The record of a valid key; None if it is unknown, expired or revoked."""
        if not plaintext.startswith(PREFIX):
            return None
        query = f"""SELECT {KEY_COLUMNS} FROM api_keys WHERE secret_digest = %s AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > now())"""  # noqa: S608 (constants)

        async def work(connection: Connection) -> KeyRecord | None:
            found = await rows(connection, query, key_digest(plaintext))
            return key_of(*found[0]) if found else None

        return await self.connections.read(work)

    async def list_keys(self) -> list[KeyRecord]:
        """All keys, newest first, the expired and revoked ones too."""
        query = f"SELECT {KEY_COLUMNS} FROM api_keys ORDER BY created_at DESC, key_id"  # noqa: S608 (constants)

        async def work(connection: Connection) -> list[KeyRecord]:
            return [key_of(*row) for row in await rows(connection, query)]

        return await self.connections.read(work)

    async def revoke_key(self, key_id: UUID) -> bool:
        """Ends the key at once; False if there is no such key or it was revoked before.

        Nothing brings it back: a directory of keys that still declares it no longer manages it.
        """
        query = """UPDATE api_keys SET revoked_at = now(), managed_by = NULL
            WHERE key_id = %s AND revoked_at IS NULL"""

        async def work(transaction: Transaction) -> bool:
            return await run(transaction.connection, query, key_id) == 1

        return await self.connections.write(work)


def key_digest(plaintext: str) -> bytes:
    """What is stored of a key's text."""
    return hashlib.sha256(plaintext.encode()).digest()


def key_of(key_id: UUID, name: str, scopes: list[str], indexes: list[str] | None, *rest: Any) -> KeyRecord:
    """The record of a row of KEY_COLUMNS."""
    return KeyRecord(key_id, name, tuple(scopes), None if indexes is None else tuple(indexes), *rest)
