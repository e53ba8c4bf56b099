"""The side table of local features: what reranking reads of images that no generation holds yet."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from psycopg.types.json import Jsonb

from visualindex.catalog.connections import Connection, Connections, Transaction, rows, run


class WithPatches(Protocol):
    """The part of an image's write that this module reads."""

    @property
    def image_id(self) -> UUID:
        """The image."""

    @property
    def patches(self) -> Mapping[str, bytes]:
        """Packed patches by their fingerprint."""


class Patches:
    """Reads packed patches, and what was measured of reranking."""

    connections: Connections

    async def get_patches(self, index: str, image_ids: Sequence[UUID], fingerprint: str) -> dict[UUID, bytes]:
        """The packed patches of those images that have some of this fingerprint, made of the content they have now."""
        query = """SELECT p.image_id, p.patches FROM image_patches p JOIN images i USING (index_name, image_id)
            WHERE p.index_name = %s AND p.image_id = ANY(%s) AND p.fingerprint = %s
            AND p.content_digest = i.content_digest"""

        async def work(connection: Connection) -> dict[UUID, bytes]:
            found = await rows(connection, query, index, list(image_ids), fingerprint)
            return {image_id: bytes(patches) for image_id, patches in found}

        return await self.connections.read(work)

    async def images_with_patches(self, index: str, image_ids: Sequence[UUID], fingerprint: str) -> set[UUID]:
        """Those images that `get_patches` would give some of, without reading them."""
        query = """SELECT p.image_id FROM image_patches p JOIN images i USING (index_name, image_id)
            WHERE p.index_name = %s AND p.image_id = ANY(%s) AND p.fingerprint = %s
            AND p.content_digest = i.content_digest"""

        async def work(connection: Connection) -> set[UUID]:
            found = await rows(connection, query, index, list(image_ids), fingerprint)
            return {image_id for (image_id,) in found}

        return await self.connections.read(work)

    async def stored_patches(
        self, index: str, fingerprint: str, after: UUID | None, limit: int
    ) -> dict[UUID, int]:
        """Image to the version that its patches here were written with: the first `limit` ids beyond `after`."""
        query = """SELECT image_id, version FROM image_patches WHERE index_name = %s AND fingerprint = %s
            AND (%s::uuid IS NULL OR image_id > %s::uuid) ORDER BY image_id LIMIT %s"""

        async def work(connection: Connection) -> dict[UUID, int]:
            return dict(await rows(connection, query, index, fingerprint, after, after, limit))

        return await self.connections.read(work)

    async def forget_patches(
        self, index: str, generation: str, folded: Mapping[UUID, int], fingerprint: str
    ) -> int:
        """Deletes patches that `generation` holds: those of `folded`, image to the version that it holds.

        An image that was given other patches since keeps them, and all do unless that generation is the active one.
        Returns how many went.
        """
        query = """DELETE FROM image_patches p USING unnest(%s::uuid[], %s::int8[]) AS f (image_id, version)
            WHERE p.index_name = %s AND p.image_id = f.image_id AND p.fingerprint = %s AND p.version <= f.version
            AND EXISTS (SELECT FROM generations g WHERE g.index_name = p.index_name AND g.generation = %s
                AND g.state = 'active')"""

        async def work(transaction: Transaction) -> int:
            columns = list(folded), list(folded.values())
            return await run(transaction.connection, query, *columns, index, fingerprint, generation)

        return await self.connections.write(work)

    async def rerank_profile(self, index: str) -> dict[str, Any] | None:
        """What `set_rerank_profile` kept; None when reranking was never measured, or there is no such index."""

        async def work(connection: Connection) -> dict[str, Any] | None:
            found = await rows(connection, "SELECT rerank FROM indexes WHERE index_name = %s", index)
            return found[0][0] if found else None

        return await self.connections.read(work)

    async def set_rerank_profile(self, index: str, profile: Mapping[str, Any] | None) -> None:
        """Keeps the weights and the verdict of a measurement (`visualindex.rerank.profile`) with the index."""
        value = None if profile is None else Jsonb(dict(profile))

        async def work(transaction: Transaction) -> None:
            query = "UPDATE indexes SET rerank = %s WHERE index_name = %s"
            await run(transaction.connection, query, value, index)

        await self.connections.write(work)


async def put(
    connection: Connection, index: str, images: Sequence[WithPatches], replaced: Sequence[UUID]
) -> None:
    """Writes the patches of `images`, whose rows are written and locked; those of other content go."""
    if replaced:
        stale = "DELETE FROM image_patches WHERE index_name = %s AND image_id = ANY(%s)"
        await run(connection, stale, index, list(replaced))
    parts = [(image.image_id, name, packed) for image in images for name, packed in image.patches.items()]
    if not parts:
        return
    await run(
        connection,
        """INSERT INTO image_patches (index_name, image_id, fingerprint, patches, content_digest, version)
           SELECT i.index_name, i.image_id, p.fingerprint, p.patches, i.content_digest, i.version
           FROM unnest(%s::uuid[], %s::text[], %s::bytea[]) AS p (image_id, fingerprint, patches)
           JOIN images i ON i.index_name = %s AND i.image_id = p.image_id
           ON CONFLICT (index_name, image_id, fingerprint) DO UPDATE SET patches = excluded.patches,
               content_digest = excluded.content_digest, version = excluded.version""",
        *([part[column] for part in parts] for column in range(3)),
        index,
    )
