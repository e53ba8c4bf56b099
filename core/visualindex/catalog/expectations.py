"""Which images a generation ought to hold: those of its moment that were left alone since, and that could be had.

Of an image that was written or deleted since nobody knows any more whether it was there, and one in quarantine may be in the
generation or not: both are set apart, and told by their ids.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visualindex.catalog.connections import Connections
from visualindex.catalog.positions import Position

# One statement, so that all of it is of one moment.
_EXPECTED = """
WITH apart AS (
    SELECT image_id FROM changes WHERE index_name = %(index)s AND xid = ANY(%(running)s::text[]::xid8[])
    UNION SELECT image_id FROM changes WHERE index_name = %(index)s AND xid >= %(xmax)s::text::xid8
    UNION SELECT image_id FROM quarantine JOIN images USING (index_name, image_id, content_digest)
        WHERE index_name = %(index)s
)
SELECT (SELECT count(*) FROM images WHERE index_name = %(index)s)
        - (SELECT count(*) FROM images JOIN apart USING (image_id) WHERE index_name = %(index)s),
    (SELECT coalesce(string_agg(uuid_send(image_id), ''::bytea), '') FROM apart)
FROM indexes WHERE index_name = %(index)s AND (trimmed_through IS NULL OR trimmed_through < %(xmin)s::text::xid8)
    AND (SELECT value FROM meta WHERE key = 'epoch') = %(epoch)s"""


@dataclass(frozen=True)
class Expected:
    """What a generation ought to hold: so many `images`, beside those that are set `apart`, uint8 [m, 16]."""

    images: int
    apart: NDArray[np.uint8]


class Expectations:
    """Counts what generations are held against."""

    connections: Connections

    async def expected_images(self, index: str, since: Position) -> Expected | None:
        """What a generation of this watermark ought to hold; None where the change log does not reach back to it."""
        values = {
            "index": index,
            "xmin": str(since.xmin),
            "xmax": str(since.xmax),
            "running": [str(xid) for xid in since.running],
            "epoch": str(since.epoch),
        }
        async with self.connections.snapshot() as connection:
            cursor = await connection.execute(_EXPECTED.encode(), values)
            found = await cursor.fetchone()
        if found is None:
            return None
        return Expected(int(found[0]), np.frombuffer(found[1], np.uint8).reshape(-1, 16))
