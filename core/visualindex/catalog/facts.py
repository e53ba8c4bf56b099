"""Small facts about the database and its indexes."""

from collections.abc import Callable

from visualindex.catalog.connections import Connection, Connections, Transaction, one, rows, run
from visualindex.catalog.indexes import IndexRecord

_SECRET_BYTES = 32


class Facts:
    """Single values."""

    connections: Connections

    async def ping(self) -> None:
        """Returns when the database answers."""

        async def work(connection: Connection) -> None:
            await one(connection, "SELECT 1")

        await self.connections.read(work)

    async def get_index(self, name: str) -> IndexRecord | None:
        """The index of that name as it was registered, None before that."""

        async def work(connection: Connection) -> IndexRecord | None:
            query = """SELECT index_name, fingerprint, dimension, coalesce(first_fingerprint, fingerprint) FROM indexes
                WHERE index_name = %s"""
            found = await rows(connection, query, name)
            return IndexRecord(*found[0]) if found else None

        return await self.connections.read(work)

    async def count_images(self, index: str) -> int:
        """How many images the index has."""

        async def work(connection: Connection) -> int:
            return int((await one(connection, "SELECT count(*) FROM images WHERE index_name = %s", index))[0])

        return await self.connections.read(work)

    async def service_secret(self, generate: Callable[[int], bytes]) -> bytes:
        """32 random bytes that every process of the service shares; the first to ask makes them."""

        async def work(transaction: Transaction) -> bytes:
            insert = "INSERT INTO meta (key, value) VALUES ('secret', %s) ON CONFLICT (key) DO NOTHING"
            await run(transaction.connection, insert, generate(_SECRET_BYTES).hex())
            found = await one(transaction.connection, "SELECT value FROM meta WHERE key = 'secret'")
            return bytes.fromhex(str(found[0]))

        return await self.connections.write(work)
