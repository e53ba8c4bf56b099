"""Objects that images came from, as rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from visualindex.catalog.connections import Connection, run


@dataclass(frozen=True)
class Origin:
    """An object of the bucket or folder `place`, and the image that was made of it while it was `etag`.

    `sequencer` is that of the last event about it; empty where none told of it.
    """

    place: str
    object_key: str
    image_id: UUID
    content_digest: bytes
    etag: str
    sequencer: str = ""


async def note(connection: Connection, index: str, origins: Sequence[Origin]) -> None:
    """Notes origins of images that are there; the latest sequencer stays."""
    columns = _by_column(sorted(origins, key=lambda origin: (origin.place, origin.object_key)))
    query = """INSERT INTO origins AS o (index_name, place, object_key, image_id, content_digest, etag, sequencer)
        SELECT %s, n.* FROM unnest(%s::text[], %s::text[], %s::uuid[], %s::bytea[], %s::text[], %s::text[])
            AS n (place, object_key, image_id, content_digest, etag, sequencer)
        WHERE EXISTS (SELECT FROM images i WHERE i.index_name = %s AND i.image_id = n.image_id)
        ON CONFLICT (index_name, place, object_key) DO UPDATE SET image_id = excluded.image_id,
            content_digest = excluded.content_digest, etag = excluded.etag, noted_at = now(),
            sequencer = CASE WHEN excluded.sequencer = '' THEN o.sequencer ELSE excluded.sequencer END"""
    if origins:
        await run(connection, query, index, *columns, index)


def _by_column(origins: Sequence[Origin]) -> tuple[list[object], ...]:
    names = ("place", "object_key", "image_id", "content_digest", "etag", "sequencer")
    return tuple([getattr(origin, name) for origin in origins] for name in names)
