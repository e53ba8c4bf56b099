"""Where images came from: objects of buckets and folders, each with what it was when it was read.

An object whose etag is the noted one is not fetched again. One that is gone takes with it the image that came from it,
unless the image has other content by now, or came from another object too.
"""

from collections.abc import Sequence

from visualindex.catalog.connections import Connection, Connections, Transaction, rows
from visualindex.catalog.images import delete_row
from visualindex.catalog.jobs import Fence, check_fence
from visualindex.catalog.origin_rows import Origin, note
from visualindex.catalog.positions import Token

_COLUMNS = "place, object_key, image_id, content_digest, etag, sequencer"


class Origins:
    """Reads and writes origins."""

    connections: Connections

    async def get_origins(self, index: str, place: str, object_keys: Sequence[str]) -> dict[str, Origin]:
        """Those of the objects that images came from, by object key."""
        query = f"""SELECT {_COLUMNS} FROM origins
            WHERE index_name = %s AND place = %s AND object_key = ANY(%s)"""  # noqa: S608 (constants)

        async def work(connection: Connection) -> dict[str, Origin]:
            found = await rows(connection, query, index, place, list(object_keys))
            return {row[1]: Origin(*row) for row in found}

        return await self.connections.read(work)

    async def list_origins(
        self, index: str, place: str, prefix: str, after: str, limit: int = 1_000
    ) -> list[Origin]:
        """At most `limit` origins whose objects start with `prefix` and come behind `after`, in the order of their bytes."""
        query = f"""SELECT {_COLUMNS} FROM origins WHERE index_name = %s AND place = %s AND object_key > %s
            AND starts_with(object_key, %s) ORDER BY object_key LIMIT %s"""  # noqa: S608 (constants)

        async def work(connection: Connection) -> list[Origin]:
            start = max(after, prefix[:-1]) if prefix else after
            found = await rows(connection, query, index, place, start, prefix, limit)
            return [Origin(*row) for row in found]

        return await self.connections.read(work)

    async def note_origins(self, index: str, origins: Sequence[Origin], fence: Fence | None = None) -> None:
        """Notes where images came from that were not written; an image that is not there any more is left out."""

        async def work(transaction: Transaction) -> None:
            await check_fence(transaction.connection, fence)
            await note(transaction.connection, index, origins)

        await self.connections.write(work)

    async def remove_origin(
        self, index: str, place: str, object_key: str, fence: Fence | None = None
    ) -> Token | None:
        """Forgets an object that is gone, and deletes the image that came from it and from nothing else.

        None when no image went.
        """
        forget = """DELETE FROM origins WHERE index_name = %s AND place = %s AND object_key = %s
            RETURNING image_id, content_digest"""
        stays = """SELECT FROM images i WHERE i.index_name = %s AND i.image_id = %s AND (i.content_digest <> %s
            OR EXISTS (SELECT FROM origins o WHERE o.index_name = i.index_name AND o.image_id = i.image_id))
            FOR UPDATE"""

        async def work(transaction: Transaction) -> Token | None:
            connection = transaction.connection
            await check_fence(connection, fence)
            found = await rows(connection, forget, index, place, object_key)
            if not found or await rows(connection, stays, index, *found[0]):
                return None
            return await delete_row(transaction, index, found[0][0])

        return await self.connections.write(work)
