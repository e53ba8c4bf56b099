"""Images as columns: the form in which a shard takes them, by the million."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson

from visualindex.colours import MOST_COLOURS

COLOURS = f"substring(coalesce(colours, '') || decode(repeat('00', {MOST_COLOURS * 4}), 'hex') FOR {MOST_COLOURS * 4})"
"""Selects an image's colours as 20 bytes, zeros where it has fewer: so that those of many rows are one array."""
PACKED = f"""
    coalesce(string_agg(uuid_send(image_id), ''::bytea), ''),
    coalesce(string_agg(vector, ''::bytea), ''),
    coalesce(string_agg(int8send(version), ''::bytea), ''),
    coalesce(string_agg(coalesce(to_json(category)::text, 'null'), ','), ''),
    coalesce(string_agg(coalesce(to_json(key)::text, 'null'), ','), ''),
    coalesce(string_agg(metadata::text, ','), ''),
    coalesce(string_agg({COLOURS}, ''::bytea), '')
"""
"""Selects the parts of `Rows.unpack` from rows (image_id, vector, version, category, key, metadata, colours).

The server joins each column into one value, so that a million rows cost the client a few buffers. Aggregates without an
order of their own see their input in one common order.
"""


@dataclass(frozen=True, slots=True)
class Rows:
    """n images, as parallel columns.

    `ids` is uint8[n, 16] (the bytes of the UUIDs), `vectors` float16[n, d], `versions` int64[n]; `categories`,
    `keys` and `metadata` are lists of n; `colours` is uint8[n, 5, 4] (red, green, blue and share,
    all zero where an image has fewer). The arrays are read-only views of what the database sent.
    """

    ids: npt.NDArray[np.uint8]
    vectors: npt.NDArray[np.float16]
    versions: npt.NDArray[np.int64]
    categories: list[str | None]
    keys: list[str | None]
    metadata: list[dict[str, Any]]
    colours: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def image_ids(self) -> list[UUID]:
        """The ids as UUIDs."""
        return uuids(self.ids.tobytes())

    def attributes(self) -> list[dict[str, Any]]:
        """What filters read of each image."""
        columns = zip(self.categories, self.keys, self.metadata, self.colour_lists, strict=True)
        return [
            {"category": category, "key": key, "metadata": metadata, "colours": colours}
            for category, key, metadata, colours in columns
        ]

    def chosen(self, places: npt.NDArray[np.int64]) -> Self:
        """Some of the rows, in the order of `places`."""
        at = places.tolist()
        return type(self)(
            ids=self.ids[places],
            vectors=self.vectors[places],
            versions=self.versions[places],
            categories=[self.categories[place] for place in at],
            keys=[self.keys[place] for place in at],
            metadata=[self.metadata[place] for place in at],
            colours=self.colours[places],
        )

    @property
    def colour_lists(self) -> list[list[list[int]]]:
        """The colours of each image as [red, green, blue, share], without the empty places."""
        return [[colour for colour in of_image if colour[3]] for of_image in self.colours.tolist()]

    @classmethod
    def empty(cls, dimension: int) -> Self:
        """No rows."""
        return cls.unpack(dimension, b"", b"", b"", "", "", "", b"")

    @classmethod
    def unpack(
        cls,
        dimension: int,
        ids: bytes,
        vectors: bytes,
        versions: bytes,
        categories: str,
        keys: str,
        metadata: str,
        colours: bytes,
    ) -> Self:
        """The rows that `PACKED` selected; ValueError if the vectors have not `dimension` numbers."""
        return cls(
            ids=np.frombuffer(ids, np.uint8).reshape(-1, 16),
            vectors=np.frombuffer(vectors, "<f2").reshape(len(ids) // 16, dimension),
            versions=np.frombuffer(versions, ">i8").astype(np.int64),
            categories=orjson.loads(f"[{categories}]"),
            keys=orjson.loads(f"[{keys}]"),
            metadata=orjson.loads(f"[{metadata}]"),
            colours=_colours(colours),
        )

    @classmethod
    def collect(
        cls, dimension: int, found: Sequence[tuple[bytes, bytes, int, str | None, str | None, str, bytes]]
    ) -> Self:
        """The rows (id, vector, version, category, key, metadata as JSON text, 20 bytes of colours) as columns."""
        ids, vectors, versions, categories, keys, metadata, colours = zip(*found, strict=True)
        return cls(
            ids=np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16),
            vectors=np.frombuffer(b"".join(vectors), "<f2").reshape(len(found), dimension),
            versions=np.array(versions, np.int64),
            categories=list(categories),
            keys=list(keys),
            metadata=orjson.loads(f"[{','.join(metadata)}]"),
            colours=_colours(b"".join(colours)),
        )


def _colours(packed: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(packed, np.uint8).reshape(-1, MOST_COLOURS, 4)


def uuids(packed: bytes) -> list[UUID]:
    """The UUIDs whose 16 bytes each stand one after another in `packed`."""
    return [UUID(bytes=packed[start : start + 16]) for start in range(0, len(packed), 16)]
