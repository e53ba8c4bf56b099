"""Pictures by their content: what was made of a picture once needs no encoder when the same picture comes again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from visualindex.catalog.connections import Connection, Connections, rows
from visualindex.catalog.directions import has_direction
from visualindex.colours import Colour, unpack


@dataclass(frozen=True)
class Twin:
    """An image of some content, with its vector, float32[d], and what else a picture's bytes decide.

    `patches` are packed, by fingerprint, where the side table still has some.
    """

    image_id: UUID
    media_type: str
    width: int
    height: int
    size_bytes: int
    colours: tuple[Colour, ...]
    vector: NDArray[np.float32]
    patches: Mapping[str, bytes]


class Twins:
    """Reads images by content."""

    connections: Connections

    async def twins(self, index: str, digests: Sequence[bytes], fingerprint: str) -> dict[bytes, Twin]:
        """For each of the contents an image that has it and a vector of this fingerprint; contents without are left out."""
        query = """SELECT DISTINCT ON (i.content_digest) i.content_digest, i.image_id, i.media_type, i.width, i.height,
                i.size_bytes, i.colours, e.vector, p.fingerprint, p.patches
            FROM images i JOIN image_embeddings e ON e.index_name = i.index_name AND e.image_id = i.image_id
                AND e.region = 0 AND e.fingerprint = %s
            LEFT JOIN image_patches p ON p.index_name = i.index_name AND p.image_id = i.image_id
                AND p.content_digest = i.content_digest
            WHERE i.index_name = %s AND i.content_digest = ANY(%s)
            ORDER BY i.content_digest, p.patches IS NULL, i.image_id"""

        async def work(connection: Connection) -> dict[bytes, Twin]:
            found = await rows(connection, query, fingerprint, index, list(digests))
            return {bytes(digest): _twin(*row) for digest, *row in found if has_direction(row[6])}

        return await self.connections.read(work)


def _twin(
    image_id: UUID,
    media_type: str,
    width: int,
    height: int,
    size_bytes: int,
    colours: bytes | None,
    vector: bytes,
    features: str | None,
    patches: bytes | None,
) -> Twin:
    known = {} if features is None or patches is None else {features: bytes(patches)}
    decoded = np.frombuffer(vector, "<f2").astype(np.float32)
    return Twin(image_id, media_type, width, height, size_bytes, unpack(colours or b""), decoded, known)
