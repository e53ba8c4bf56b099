"""Whether a build can end well, asked before it begins: by the rows the catalog has, and the room that is left here.

And how many shards can be built at once, by the same figures.
"""

from dataclasses import dataclass

from visualindex.capacity.coefficients import DEFAULTS, Coefficients
from visualindex.capacity.fitting import fit, misfit
from visualindex.capacity.formulas import build_memory, rows_of_largest, scratch_bytes
from visualindex.capacity.machine import Room
from visualindex.capacity.wording import size
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec import Spec

_DISK_LEFT = 0.02
"""Share of what is needed that must stay free beside it: a disk that is full to the last block harms others."""
_SHARE_OF_MORE = 0.5
"""Share of the memory and disk left that builders may take which nobody asked for: what is served needs some of it, too."""


@dataclass(frozen=True)
class _Need:
    """Bytes that one builder takes at its height."""

    memory: int
    disk: int

    def within(self, room: Room, builders: int, share: float = 1.0) -> bool:
        return builders * self.memory <= room.memory * share and builders * self.disk <= room.disk * share


def afford(
    spec: Spec,
    dimension: int,
    images: int,
    available: Room,
    measured: Coefficients = DEFAULTS,
    *,
    cpus: int = 1,
    machines: int = 1,
) -> int:
    """How many shards of a generation of so many images to build at once, on `machines` with so many CPUs and room each.

    As many as `reindex.builders` says; by default one for each CPU as long as all of them take half of what is left, and
    one where that is more. Every shard fits `memoryPerShard` then, and all that is built at once what is available.

    `measured` has the bytes of these images' attributes. Raises ProblemError(STORAGE_FULL) that names the bytes and what
    would make them fit, as a plan by the same figures does.
    """
    shards, asked = spec.index.shards, spec.reindex.builders
    need = _need(spec, dimension, images, measured)
    most = -(-min(asked or shards, shards) // machines)
    if asked:
        _check(spec, images, need, available, most)
        return min(asked, shards)
    _check(spec, images, need, available, 1)
    tried = range(min(most, cpus), 1, -1)
    each = next((builders for builders in tried if need.within(available, builders, _SHARE_OF_MORE)), 1)
    return min(shards, each * machines)


def _need(spec: Spec, dimension: int, images: int, measured: Coefficients) -> _Need:
    encoder = spec.encoder.model_copy(update={"dimension": dimension})
    of_vectors = spec.model_copy(update={"encoder": encoder})
    problem = misfit(of_vectors, images, measured)
    if problem is not None:
        detail = (
            f"a generation of {images:,} images of {dimension} dimensions with {measured.attribute_bytes:.0f} bytes of "
            f"attributes each does not fit: {problem}"
        )
        raise ProblemError(ProblemType.STORAGE_FULL, detail)
    rows, family = rows_of_largest(images, spec.index.shards), fit(of_vectors, images, measured).family
    disk = int(scratch_bytes(of_vectors, family, rows, measured) * (1 + _DISK_LEFT))
    return _Need(build_memory(of_vectors, family, rows, measured), disk)


def _check(spec: Spec, images: int, need: _Need, available: Room, builders: int) -> None:
    if need.within(available, builders):
        return
    shards = spec.index.shards
    if builders > 1 and need.within(available, 1):
        remedy = f"{builders} shards are built at once: set reindex.builders to 1, or to 0 for as many as fit"
    else:
        remedy = f"use more than {shards} shards, which can be built one after another"
    if builders * need.disk > available.disk:
        more = "free or add disk space where generations are built"
        raise _refused("disk", images, builders * need.disk, available.disk, f"{remedy}, or {more}")
    more = "give it more memory"
    raise _refused("memory", images, builders * need.memory, available.memory, f"{remedy}, or {more}")


def _refused(what: str, images: int, needed: int, available: int, remedy: str) -> ProblemError:
    return ProblemError(
        ProblemType.STORAGE_FULL,
        f"a generation of {images:,} images needs {needed} bytes of {what} ({size(needed)}) while it is built, and "
        f"{available} are available: {remedy}",
    )
