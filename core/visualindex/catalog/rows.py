"""Images as columns: the form in which a shard takes them, by the million."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson

PACKED = """
    coalesce(string_agg(uuid_send(image_id), ''::bytea), ''),
    coalesce(string_agg(vector, ''::bytea), ''),
    coalesce(string_agg(int8send(version), ''::bytea), ''),
    coalesce(string_agg(coalesce(to_json(category)::text, 'null'), ','), ''),
    coalesce(string_agg(coalesce(to_json(key)::text, 'null'), ','), ''),
    coalesce(string_agg(metadata::text, ','), '')
"""
"""Selects the parts of `Rows.unpack` from rows (image_id, vector, version, category, key, metadata).

The server joins each column into one value, so that a million rows cost the client a few buffers. Aggregates without an
order of their own see their input in one common order.
"""


@dataclass(frozen=True, slots=True)
class Rows:
    """n images, as parallel columns.

    `ids` is uint8[n, 16] (the bytes of the UUIDs), `vectors` float16[n, d], `versions` int64[n]; `categories`,
    `keys` and `metadata` are lists of n. The arrays are read-only views of what the database sent.
    """

    ids: npt.NDArray[np.uint8]
    vectors: npt.NDArray[np.float16]
    versions: npt.NDArray[np.int64]
    categories: list[str | None]
    keys: list[str | None]
    metadata: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def image_ids(self) -> list[UUID]:
        """The ids as UUIDs."""
        return uuids(self.ids.tobytes())

    def attributes(self) -> list[dict[str, Any]]:
        """What filters read of each image."""
        columns = zip(self.categories, self.keys, self.metadata, strict=True)
        return [
            {"category": category, "key": key, "metadata": metadata} for category, key, metadata in columns
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
        )

    @classmethod
    def empty(cls, dimension: int) -> Self:
        """No rows."""
        return cls.unpack(dimension, b"", b"", b"", "", "", "")

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
    ) -> Self:
        """The rows that `PACKED` selected; ValueError if the vectors have not `dimension` numbers."""
        return cls(
            ids=np.frombuffer(ids, np.uint8).reshape(-1, 16),
            vectors=np.frombuffer(vectors, "<f2").reshape(len(ids) // 16, dimension),
            versions=np.frombuffer(versions, ">i8").astype(np.int64),
            categories=orjson.loads(f"[{categories}]"),
            keys=orjson.loads(f"[{keys}]"),
            metadata=orjson.loads(f"[{metadata}]"),
        )

    @classmethod
    def collect(
        cls, dimension: int, found: Sequence[tuple[bytes, bytes, int, str | None, str | None, str]]
    ) -> Self:
        """The rows (id bytes, vector bytes, version, category, key, metadata as JSON text) as columns."""
        ids, vectors, versions, categories, keys, metadata = zip(*found, strict=True)
        return cls(
            ids=np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16),
            vectors=np.frombuffer(b"".join(vectors), "<f2").reshape(len(found), dimension),
            versions=np.array(versions, np.int64),
            categories=list(categories),
            keys=list(keys),
            metadata=orjson.loads(f"[{','.join(metadata)}]"),
        )


def uuids(packed: bytes) -> list[UUID]:
    """The UUIDs whose 16 bytes each stand one after another in `packed`."""
    return [UUID(bytes=packed[start : start + 16]) for start in range(0, len(packed), 16)]
