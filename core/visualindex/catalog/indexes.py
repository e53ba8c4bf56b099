"""The indexes that the catalog knows, and which encoder the vectors of each come from."""

from dataclasses import dataclass

from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run
from visualindex.errors import ProblemError, ProblemType


@dataclass(frozen=True)
class IndexRecord:
    """An index: the fingerprint of the encoder that it is searched with, and the dimension of those vectors.

    `first_fingerprint` is that of the first encoder it had, by which gateways and shards know each other.
    """

    name: str
    fingerprint: str
    dimension: int
    first_fingerprint: str = ""


class Indexes:
    """Creates and names indexes."""

    connections: Connections

    async def ensure_index(self, name: str, fingerprint: str, dimension: int) -> None:
        """Creates the index, or gives an empty one this encoder.

        ProblemError FINGERPRINT_MISMATCH if it has vectors of another encoder.
        """

        async def work(transaction: Transaction) -> None:
            await _ensure(transaction.connection, IndexRecord(name, fingerprint, dimension))

        await self.connections.write(work)

    async def list_indexes(self) -> list[IndexRecord]:
        """All indexes, by name."""

        async def work(connection: Connection) -> list[IndexRecord]:
            query = """SELECT index_name, fingerprint, dimension, coalesce(first_fingerprint, fingerprint) FROM indexes
                ORDER BY index_name"""
            return [IndexRecord(*row) for row in await rows(connection, query)]

        return await self.connections.read(work)


async def _ensure(connection: Connection, wanted: IndexRecord) -> None:
    create = """INSERT INTO indexes (index_name, fingerprint, dimension) VALUES (%s, %s, %s)
        ON CONFLICT (index_name) DO NOTHING"""
    if await run(connection, create, wanted.name, wanted.fingerprint, wanted.dimension):
        return
    query = """SELECT fingerprint, dimension, EXISTS (SELECT FROM image_embeddings e WHERE e.index_name = i.index_name)
        FROM indexes i WHERE index_name = %s FOR UPDATE"""
    fingerprint, dimension, used = (await rows(connection, query, wanted.name))[0]
    if (fingerprint, dimension) == (wanted.fingerprint, wanted.dimension):
        return
    if used:
        raise _mismatch(IndexRecord(wanted.name, fingerprint, dimension), wanted)
    change = "UPDATE indexes SET fingerprint = %s, dimension = %s WHERE index_name = %s"
    await run(connection, change, wanted.fingerprint, wanted.dimension, wanted.name)


def _mismatch(present: IndexRecord, wanted: IndexRecord) -> ProblemError:
    detail = (
        f"index {present.name} holds vectors of encoder {present.fingerprint} ({present.dimension}-d), but the spec names "
        f"{wanted.fingerprint} ({wanted.dimension}-d): restore the encoder settings, or create a new index"
    )
    return ProblemError(ProblemType.FINGERPRINT_MISMATCH, detail)
