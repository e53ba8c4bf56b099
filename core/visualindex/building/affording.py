"""Whether a build can end well, asked before it begins: by the rows the catalog has, and the room that is left here."""

from visualindex.capacity.coefficients import DEFAULTS, Coefficients
from visualindex.capacity.fitting import fit, misfit
from visualindex.capacity.formulas import build_memory, rows_of_largest, scratch_bytes, segment_bytes
from visualindex.capacity.machine import Room
from visualindex.capacity.wording import size
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec import Spec

_DISK_LEFT = 0.02
"""Share of what is needed that must stay free beside it: a disk that is full to the last block harms others."""


def afford(
    spec: Spec, dimension: int, images: int, available: Room, measured: Coefficients = DEFAULTS
) -> None:
    """Return if a generation of so many images can be built: every shard within `memoryPerShard`, all in what is available.

    `measured` has the bytes of these images' attributes. Raises ProblemError(STORAGE_FULL) that names the bytes and what
    would make them fit, as a plan by the same figures does.
    """
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
    generation = segment_bytes(of_vectors, family, images, measured).total
    disk = int(scratch_bytes(of_vectors, generation, rows, measured) * (1 + _DISK_LEFT))
    if disk > available.disk:
        raise _refused(
            "disk", images, disk, available.disk, "free or add disk space where generations are built"
        )
    memory = build_memory(of_vectors, family, rows, measured)
    if memory > available.memory:
        remedy = f"use more than {spec.index.shards} shards, which are built one after another, or give it more memory"
        raise _refused("memory", images, memory, available.memory, remedy)


def _refused(what: str, images: int, needed: int, available: int, remedy: str) -> ProblemError:
    return ProblemError(
        ProblemType.STORAGE_FULL,
        f"a generation of {images:,} images needs {needed} bytes of {what} ({size(needed)}) while it is built, and "
        f"{available} are available: {remedy}",
    )
