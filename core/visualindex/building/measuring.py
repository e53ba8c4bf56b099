"""What attributes take in a shard's memory, measured from a sample of the rows themselves: metadata is of any size."""

import dataclasses
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

import numpy as np
import orjson

from visualindex.ann import ShardIndex, Upserts
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.capacity.coefficients import DEFAULTS, Coefficients
from visualindex.catalog import Catalog, IndexRecord, Rows
from visualindex.identity import BUCKETS
from visualindex.spec.models import HnswSpec

SAMPLE = 4096
"""Rows, about, that are measured."""


async def sampled(catalog: Catalog, of: IndexRecord, images: int) -> list[dict[str, Any]]:
    """The attributes of about `SAMPLE` rows: those of a few buckets, to which ids are spread by their hash."""
    buckets = range(min(BUCKETS, -(-BUCKETS * SAMPLE // max(1, images))))
    follower = catalog.follow(of.name, of.fingerprint, buckets, dimension=of.dimension)
    parts = cast("AsyncGenerator[Rows]", follower.load(SAMPLE))
    async with aclosing(parts):
        async for part in parts:
            return part.attributes()
    return []


def measured_by(attributes: Sequence[dict[str, Any]]) -> Coefficients:
    """The shipped figures, with those of attributes as these rows have them, in a segment and as fresh rows."""
    count = len(attributes)
    if not count:
        return DEFAULTS
    columns = AttributeColumns.build(fields(one) for one in attributes)
    return dataclasses.replace(
        DEFAULTS,
        attribute_bytes=columns.memory_bytes / count,
        fresh_row_bytes=_fresh_bytes(attributes) / count,
        spool_bytes=sum(len(orjson.dumps(one)) for one in attributes) / count,
    )


def _fresh_bytes(attributes: Sequence[dict[str, Any]]) -> int:
    """Of a shard that holds the rows as fresh ones, beside their vectors."""
    count = len(attributes)
    index = ShardIndex(1, flat_below=count, hnsw=HnswSpec(), memory_limit=1 << 62)
    try:
        ids = np.arange(count, dtype=">u8").view(np.uint8).reshape(count, 8).repeat(2, axis=1)
        index.apply(Upserts(ids, np.ones((count, 1), np.float32), attributes, np.ones(count, np.int64)))
        return index.memory_bytes - 2 * count
    finally:
        index.close()
