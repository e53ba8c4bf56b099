"""Generations of a few images, written and opened as real ones are."""

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import open_segment
from visualindex.building.segments import build_segment
from visualindex.building.spool import Spool
from visualindex.catalog import Rows
from visualindex.gate.opened import Opened
from visualindex.gate.probes import Probes, unit
from visualindex.spec import IndexSpec, Spec

DIMENSION = 32
SPEC = Spec()
Vectors = NDArray[np.float32]
Ids = NDArray[np.uint8]


def ids_of(numbers: range) -> Ids:
    """The ids of some images, uint8 [n, 16]."""
    known = [uuid.uuid5(uuid.NAMESPACE_OID, str(number)).bytes for number in numbers]
    return np.frombuffer(b"".join(known), np.uint8).reshape(-1, 16)


def vectors_of(numbers: range, seed: int = 0) -> Vectors:
    """The vector of each image, float32 [n, 32]."""
    return np.stack(
        [np.random.default_rng([seed, number]).standard_normal(DIMENSION, np.float32) for number in numbers]
    )


def generation(
    folder: Path,
    ids: Ids,
    vectors: Vectors,
    *,
    fingerprint: str = "f",
    versions: NDArray[np.int64] | None = None,
    shards: int = 1,
    index: IndexSpec = SPEC.index,
    check: Callable[[], None] = lambda: None,
) -> Opened:
    """A generation of these images, opened from its files."""
    versions = np.ones(len(ids), np.int64) if versions is None else versions
    segments = []
    for shard in range(shards):
        part = slice(shard, None, shards)
        directory = folder / f"{fingerprint}-{shard}"
        directory.mkdir(parents=True)
        spool = Spool(folder, vectors.shape[1])
        with spool:
            spool.add(_rows(ids[part], vectors[part], versions[part]))
        build_segment(spool, directory, index)
        segments.append(open_segment(directory, vectors.shape[1]))
    return Opened(
        segments,
        generation=folder.name.ljust(16, "0"),
        fingerprint=fingerprint,
        dimension=vectors.shape[1],
        index=index,
        check=check,
    )


def probes_of(ids: Ids, vectors: Vectors) -> Probes:
    """These images as what to ask for."""
    return Probes(ids, unit(vectors))


def _rows(ids: Ids, vectors: Vectors, versions: NDArray[np.int64]) -> Rows:
    count = len(ids)
    colours = np.zeros((count, 5, 4), np.uint8)
    half = vectors.astype(np.float16)
    return Rows(ids, half, versions, [None] * count, [None] * count, [{}] * count, colours)
