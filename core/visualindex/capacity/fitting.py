"""Whether a shard fits the memory it may use, and the fewest shards that would."""

from dataclasses import dataclass

from visualindex.capacity.choosing import COUNTS, TO_SPEC, fitting, needed_bytes, smallest
from visualindex.capacity.coefficients import Coefficients
from visualindex.capacity.formulas import rows_of_largest
from visualindex.capacity.sizes import FAMILIES
from visualindex.capacity.wording import size
from visualindex.spec import Spec

_MIB = 1024**2


@dataclass(frozen=True)
class ShardFit:
    """The largest shard of an index."""

    rows: int
    family: str
    """The one it gets; the one that needs least, where none fits."""
    needed: int
    """Bytes of `memoryPerShard` that it needs, fresh rows included."""
    fits: bool

    @property
    def spec_family(self) -> str:
        """As `spec.index.family` calls it."""
        return TO_SPEC.get(self.family, self.family)


def fit(spec: Spec, images: int, measured: Coefficients) -> ShardFit:
    """The largest shard of so many images as `spec` divides them."""
    index, dimension = spec.index, spec.encoder.dimension
    rows = rows_of_largest(images, index.shards)
    family = fitting(index, rows, dimension, measured)
    named = family or smallest(index, rows, dimension, measured)
    return ShardFit(rows, named, needed_bytes(index, named, rows, dimension, measured), family is not None)


def fewest_shards(spec: Spec, images: int, measured: Coefficients, family: str | None = None) -> int | None:
    """The smallest number of shards that fits; with another family where one is named. None: not even 1,024 do."""
    index = spec.index if family is None else spec.index.model_copy(update={"family": family})
    for shards in COUNTS:
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
    ways = [*_ways(spec, images, measured), f"memoryPerShard {-(-found.needed // _MIB)}Mi"]
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
