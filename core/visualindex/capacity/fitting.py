"""Whether a shard fits the memory it may use, and the fewest shards that would."""

from dataclasses import dataclass

from visualindex.capacity.choosing import OF_SPEC, SHARE, TO_SPEC, choose_family, shard_bytes
from visualindex.capacity.coefficients import Coefficients
from visualindex.capacity.formulas import fresh_bytes, fresh_rows, hot_bytes, rows_of_largest
from visualindex.capacity.sizes import FAMILIES, FLAT
from visualindex.capacity.wording import size
from visualindex.errors import ProblemError
from visualindex.identity import BUCKETS
from visualindex.spec import Spec
from visualindex.spec.models import IndexSpec

_COUNTS = sorted({-(-BUCKETS // buckets) for buckets in range(1, BUCKETS + 1)})
"""Numbers of shards worth a try: any other has a largest shard as large as that of a smaller number."""


@dataclass(frozen=True)
class ShardFit:
    """The largest shard of an index."""

    rows: int
    family: str
    """The one it gets; the fastest that may be taken, where none fits."""
    needed: int
    """Bytes of `memoryPerShard` that it needs, fresh rows included."""
    fits: bool

    @property
    def spec_family(self) -> str:
        """As `spec.index.family` calls it."""
        return TO_SPEC.get(self.family, self.family)


def needed_bytes(index: IndexSpec, family: str, rows: int, dimension: int, measured: Coefficients) -> int:
    """max(shard_bytes / 0.75, hot_bytes + fresh_bytes): what a build is allowed, and what a shard holds before the next one.

    A shard of no more than `flatBelow` rows may hold all of them as fresh ones, and no generation.
    """
    fresh = fresh_bytes(index, fresh_rows(index, rows), dimension, measured)
    hot = hot_bytes(index, family, rows, dimension, measured)
    allowed = int(shard_bytes(index, family, rows, dimension) / SHARE)
    return max(allowed, max(hot, fresh) if rows <= index.flat_below else hot + fresh)


def fit(spec: Spec, images: int, measured: Coefficients) -> ShardFit:
    """The largest shard of so many images as `spec` divides them."""
    index, dimension = spec.index, spec.encoder.dimension
    rows = rows_of_largest(images, index.shards)
    family = _built(index, rows, dimension)
    named = family or _allowed(index, rows)[0]
    needed = needed_bytes(index, named, rows, dimension, measured)
    return ShardFit(rows, named, needed, family is not None and needed <= index.memory_per_shard)


def fewest_shards(spec: Spec, images: int, measured: Coefficients, family: str | None = None) -> int | None:
    """The smallest number of shards that fits; with another family where one is named. None: not even 1,024 do."""
    index = spec.index if family is None else spec.index.model_copy(update={"family": family})
    for shards in _COUNTS:
        divided = spec.model_copy(update={"index": index.model_copy(update={"shards": shards})})
        if fit(divided, images, measured).fits:
            return shards
    return None


def misfit(spec: Spec, images: int, measured: Coefficients) -> str | None:
    """What does not fit, with what would; None when it fits."""
    found = fit(spec, images, measured)
    if found.fits:
        return None
    index = spec.index
    ways = [*_ways(spec, images, measured), f"memoryPerShard {size(found.needed)}"]
    return (
        f"index.shards: {index.shards} would need {size(found.needed)} per shard as {found.spec_family}, memoryPerShard is "
        f"{size(index.memory_per_shard)}: {', or '.join(ways)}"
    )


def _ways(spec: Spec, images: int, measured: Coefficients) -> list[str]:
    """The number of shards for the family it has, and the family that needs fewest."""
    own = fewest_shards(spec, images, measured)
    ways = [] if own is None else [f"{own} shards"]
    names = [TO_SPEC.get(family, family) for family in FAMILIES[1:]]
    others = [(fewest_shards(spec, images, measured, name), name) for name in names]
    fewer = [(count, name) for count, name in others if count is not None and (own is None or count < own)]
    if fewer:
        count, name = min(fewer, key=lambda way: way[0])
        ways.append(f"family {name} with {count}")
    return ways


def _allowed(index: IndexSpec, rows: int) -> tuple[str, ...]:
    """Families that may be taken, the fastest first."""
    if rows <= index.flat_below or index.family == FLAT:
        return (FLAT,)
    return FAMILIES[1:] if index.family == "auto" else (OF_SPEC.get(index.family, index.family),)


def _built(index: IndexSpec, rows: int, dimension: int) -> str | None:
    """The family that a build takes, by vectors and index alone; None where it refuses."""
    try:
        return choose_family(index, rows, dimension)
    except ProblemError:
        return None
