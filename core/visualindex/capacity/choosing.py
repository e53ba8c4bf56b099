"""Which family an index gets: the fastest that fits the memory a shard may use."""

from visualindex.capacity.sizes import FAMILIES, FLAT, Parameters, resident_bytes
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec.models import IndexSpec

SEGMENT_ROW_BYTES = 40
"""Bytes of a row beside vector and index: id, version, bucket, its place in the order of ids, whether it is alive."""
SHARE = 0.75
"""Share of `memoryPerShard` that a built index may take; the rest is for attributes, fresh rows and searches under way."""
OF_SPEC = {"hnsw": "hnsw-fp16"}
TO_SPEC = {family: name for name, family in OF_SPEC.items()}


def choose_family(index: IndexSpec, rows: int, dimension: int) -> str:
    """The family for a shard of `rows` rows: one of `sizes.FAMILIES`, `flat` up to `flatBelow` rows.

    Families are tried by falling memory, which is by rising latency. Raises `ProblemError(STORAGE_FULL)` that names the
    bytes, and what would make them fit, when the family that was asked for does not fit, or none does.
    """
    allowed = int(index.memory_per_shard * SHARE)
    asked = _asked(index, rows)
    for family in asked:
        if shard_bytes(index, family, rows, dimension) <= allowed:
            return family
    raise _does_not_fit(index, asked[-1], rows, dimension)


def shard_bytes(index: IndexSpec, family: str, rows: int, dimension: int) -> int:
    """Bytes that a shard of `rows` rows keeps touching under `family`, without attributes and fresh rows."""
    vectors = resident_bytes(family, rows, dimension, Parameters(index.hnsw))
    return vectors + SEGMENT_ROW_BYTES * rows


def _asked(index: IndexSpec, rows: int) -> tuple[str, ...]:
    """Families that may be taken, the best first."""
    flat = rows <= index.flat_below or index.family == FLAT
    if index.family == "auto":
        return FAMILIES if flat else FAMILIES[1:]
    return (FLAT,) if flat else (OF_SPEC.get(index.family, index.family),)


def _does_not_fit(index: IndexSpec, family: str, rows: int, dimension: int) -> ProblemError:
    needed = shard_bytes(index, family, rows, dimension)
    memory = -(-int(needed / SHARE) // _MIB) + 1
    shards = index.shards * -(-needed // int(index.memory_per_shard * SHARE))
    smaller = [
        TO_SPEC.get(other, other)
        for other in FAMILIES[1:]
        if shard_bytes(index, other, rows, dimension) <= index.memory_per_shard * SHARE
    ]
    remedies = [f"raise index.memoryPerShard to {memory}Mi", f"use {shards} shards"]
    if smaller:
        remedies.append(f"set index.family to {smaller[0]} (or auto)")
    detail = (
        f"{rows} images of {dimension} dimensions need {needed} bytes of a shard's memory as "
        f"{TO_SPEC.get(family, family)}, and index.memoryPerShard allows {int(index.memory_per_shard * SHARE)} for it "
        f"({SHARE:.0%} of {index.memory_per_shard}): {', or '.join(remedies)}"
    )
    return ProblemError(ProblemType.STORAGE_FULL, detail)


_MIB = 1024**2
