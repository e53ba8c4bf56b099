"""Which family an index gets: the fastest with which a shard fits the memory it may use, all that it holds counted."""

from visualindex.capacity.coefficients import DEFAULTS, Coefficients
from visualindex.capacity.formulas import fresh_bytes, fresh_rows, hot_bytes, shard_bytes
from visualindex.capacity.sizes import FAMILIES, FLAT
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import BUCKETS
from visualindex.spec.models import IndexSpec

SHARE = 0.75
"""Share of `memoryPerShard` that a built index may take; the rest is for attributes, fresh rows and searches under way."""
OF_SPEC = {"hnsw": "hnsw-fp16"}
TO_SPEC = {family: name for name, family in OF_SPEC.items()}
COUNTS = sorted({-(-BUCKETS // buckets) for buckets in range(1, BUCKETS + 1)})
"""Numbers of shards worth a try: any other has a largest shard as large as that of a smaller number."""
_MIB = 1024**2


def choose_family(index: IndexSpec, rows: int, dimension: int, measured: Coefficients = DEFAULTS) -> str:
    """The family for a shard of `rows` rows: one of `sizes.FAMILIES`, `flat` up to `flatBelow` rows.

    Families are tried by falling memory, which is by rising latency. Raises `ProblemError(STORAGE_FULL)` that names the
    bytes, and what would make them fit, when the family that was asked for does not fit, or none does.
    """
    family = fitting(index, rows, dimension, measured)
    if family is None:
        raise _does_not_fit(index, rows, dimension, measured)
    return family


def fitting(index: IndexSpec, rows: int, dimension: int, measured: Coefficients) -> str | None:
    """The fastest family that may be taken and fits; None where there is none."""
    for family in allowed(index, rows):
        if needed_bytes(index, family, rows, dimension, measured) <= index.memory_per_shard:
            return family
    return None


def smallest(index: IndexSpec, rows: int, dimension: int, measured: Coefficients) -> str:
    """The family, of those that may be taken, that needs least."""
    return min(allowed(index, rows), key=lambda one: needed_bytes(index, one, rows, dimension, measured))


def needed_bytes(index: IndexSpec, family: str, rows: int, dimension: int, measured: Coefficients) -> int:
    """max(shard_bytes / 0.75, hot_bytes + fresh_bytes): what a build is allowed, and what a shard holds before the next one.

    A shard of no more than `flatBelow` rows may hold all of them as fresh ones, and no generation.
    """
    fresh = fresh_bytes(index, fresh_rows(index, rows), dimension, measured)
    hot = hot_bytes(index, family, rows, dimension, measured)
    of_index = -int(-shard_bytes(index, family, rows, dimension) // SHARE)
    return max(of_index, max(hot, fresh) if rows <= index.flat_below else hot + fresh)


def allowed(index: IndexSpec, rows: int) -> tuple[str, ...]:
    """Families that may be taken, the fastest first."""
    if index.family == FLAT or rows <= index.flat_below:
        return (FLAT,)
    return FAMILIES[1:] if index.family == "auto" else (OF_SPEC.get(index.family, index.family),)


def _does_not_fit(index: IndexSpec, rows: int, dimension: int, measured: Coefficients) -> ProblemError:
    family = smallest(index, rows, dimension, measured)
    needed = needed_bytes(index, family, rows, dimension, measured)
    remedies = [f"raise index.memoryPerShard to {-(-needed // _MIB)}Mi"]
    if (shards := _shards_that_fit(index, rows, dimension, measured)) is not None:
        remedies.append(f"use {shards} shards")
    others = [TO_SPEC.get(other, other) for other in FAMILIES[1:]]
    fit = [o for o in others if fitting(index.model_copy(update={"family": o}), rows, dimension, measured)]
    if fit and rows > index.flat_below:
        remedies.append(f"set index.family to {fit[0]} (or auto)")
    detail = (
        f"{rows} images of {dimension} dimensions need {needed} bytes of a shard's memory as "
        f"{TO_SPEC.get(family, family)}, {measured.attribute_bytes:.0f} bytes of attributes each and the rows written "
        f"until the next generation included, and index.memoryPerShard is {index.memory_per_shard}: "
        f"{', or '.join(remedies)}"
    )
    return ProblemError(ProblemType.STORAGE_FULL, detail)


def _shards_that_fit(index: IndexSpec, rows: int, dimension: int, measured: Coefficients) -> int | None:
    for shards in COUNTS:
        if shards > index.shards and fitting(index, -(-rows * index.shards // shards), dimension, measured):
            return shards
    return None
