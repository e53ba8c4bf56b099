"""What fewer dimensions save and cost: bytes, latency, recall and precision of the bundled encoder at each of them.

    OMP_NUM_THREADS=1 python -m benchmarks.dimensions [--rows 8000] [--dimensions 1280 512 256 128] [--family hnsw-fp16]

The pictures are those of the labelled collections (furniture by category, stamps by folder). Each is encoded once, without
projection; the other dimensions are the encoder's own projection of that. The index holds so many views of the pictures
(cropped, turned, mirrored, relit) in the family that `index.family: auto` takes beyond `flatBelow`, tuned to the default
`targetRecall`, and is asked with other views.

Recall is against exact search of the same vectors. `p50` is the median CPU time of one query on one thread, by the index and
by exact search, the dimensions taking turns query by query. Precision is that of the pictures among themselves, each asking
for others of its label by exact search, so that it says what the vectors are worth, not the index. Ratios are to the first
dimension.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.engine.embeddings import augmented
from visualindex.ann import codes as half
from visualindex.ann.families import Ann, Effort, Parameters, build_and_tune, open_ann
from visualindex.capacity.sizes import FAMILIES
from visualindex.collections import COLLECTIONS, fetch_collection
from visualindex.collections.debian import cache_folder
from visualindex.encoders import Encoder, load_unprojected
from visualindex.encoders.projection import load_shipped_projection
from visualindex.imaging.decoding import decode
from visualindex.imaging.inputs import InputSpec
from visualindex.imaging.jobs import Bounds, DecodeJob
from visualindex.spec import Spec

K = 10
QUERIES = 500
_BATCH = 32
_EDGE = 384
_FLOAT_BYTES = 2

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """Pictures of a collection and their labels as numbers."""

    name: str
    pictures: Sequence[NDArray[np.uint8]]
    labels: NDArray[np.int64]


@dataclass
class Row:
    """A line of the table."""

    dimension: int
    vector_bytes: int
    index_bytes: float
    p50_ms: float
    exact_ms: float
    recall: float
    precision: dict[str, float]


def collections(cache: Path) -> list[Labelled]:
    """Every labelled collection, its pictures uint8[384, 384, 3]."""
    large, bounds = (
        InputSpec(_EDGE, _EDGE, resize="squash", interpolation="bicubic"),
        Bounds.of(Spec().limits),
    )
    found = []
    for name in COLLECTIONS:
        collection = fetch_collection(name, cache / name)
        pictures = []
        for item in collection.items:
            pixels = decode(DecodeJob((collection.root / item.path).read_bytes(), large), bounds).pixels
            assert pixels is not None
            pictures.append(pixels)
        labels = np.unique([item.category for item in collection.items], return_inverse=True)[1]
        found.append(Labelled(name, pictures, labels.astype(np.int64)))
    return found


def encoded(encoder: Encoder, pictures: Iterator[NDArray[np.uint8]]) -> Vectors:
    """Unprojected vectors of pictures of the encoder's size, L2-normalised."""
    vectors, batch = [], []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == _BATCH:
            vectors.append(encoder.encode(np.stack(batch)).vectors)
            batch = []
    if batch:
        vectors.append(encoder.encode(np.stack(batch)).vectors)
    return np.concatenate(vectors)


def views(of: Sequence[Labelled], count: int, wanted: InputSpec, seed: int) -> Iterator[NDArray[np.uint8]]:
    """So many views of the pictures in turn."""
    random = np.random.default_rng(seed)
    pictures = [picture for one in of for picture in one.pictures]
    for number in random.permutation(np.resize(np.arange(len(pictures)), count)):
        yield augmented(pictures[number], wanted, random)


def whole(one: Labelled, wanted: InputSpec) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a collection as they are."""
    for picture in one.pictures:
        yield np.asarray(cv2.resize(picture, (wanted.width, wanted.height), interpolation=cv2.INTER_AREA))


def reduced(vectors: Vectors, dimension: int) -> Vectors:
    """The vectors as the bundled encoder makes them of that dimension."""
    if dimension == vectors.shape[1]:
        return vectors
    return load_shipped_projection("efficientnet-lite0.npz").truncated(dimension).apply(vectors)


def precision(vectors: Vectors, labels: NDArray[np.int64]) -> float:
    """Share of the ten nearest other pictures that have the label of the one that asks."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argpartition(-scores, K, axis=1)[:, :K]
    return float((labels[nearest] == labels[:, None]).mean())


@dataclass
class Contender:
    """An index of one dimension, and what was measured while it was asked."""

    codes: half.Codes
    queries: Vectors
    index: Ann
    effort: Effort
    bytes: float
    took: list[float] = field(default_factory=list)
    exact: list[float] = field(default_factory=list)
    hit: list[float] = field(default_factory=list)

    def ask(self, at: int) -> None:
        """One query, by the index and exactly."""
        query = self.queries[at : at + 1]
        start = time.thread_time()
        scores, _ = self.index.search(query, K, None, self.effort)
        asked = time.thread_time()
        truth, _ = half.scan(self.codes, query, K, None)
        self.exact.append(time.thread_time() - asked)
        self.took.append(asked - start)
        self.hit.append(float(np.mean(scores[0] >= truth[0, -1])))


def contender(family: str, stored: Vectors, queries: Vectors, directory: Path) -> Contender:
    """Build, write and open as a shard does."""
    codes = half.encode(stored)
    built, report = build_and_tune(family, codes, Spec().index.target_recall, Parameters())
    directory.mkdir()
    built.write(directory)
    index = open_ann(directory, codes)
    assert index is not None
    size = sum(file.stat().st_size for file in directory.iterdir()) / len(codes)
    return Contender(codes, queries, index, report.chosen, size)


def measured(family: str, stored: Vectors, queries: Vectors, dimensions: Sequence[int]) -> dict[int, Row]:
    """Everything but precision, by dimension."""
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            dimension: contender(
                family, reduced(stored, dimension), reduced(queries, dimension), Path(folder, str(dimension))
            )
            for dimension in dimensions
        }
        for at in range(len(queries)):
            for one in contenders.values():
                one.ask(at)
    return {
        dimension: Row(
            dimension,
            _FLOAT_BYTES * dimension,
            one.bytes,
            statistics.median(one.took) * 1e3,
            statistics.median(one.exact) * 1e3,
            statistics.mean(one.hit),
            {},
        )
        for dimension, one in contenders.items()
    }


def table(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Print it, with each figure's ratio to the first line's."""
    first = rows[0]
    heads = ["dimensions", "vector B/image", "index B/image", "both, ratio"]
    heads += ["p50 ms", "ratio", "exact p50 ms", "ratio", "recall@10"]
    heads += [head for name in names for head in (f"P@10 {name}", "ratio")]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for row in rows:
        size, whole_size = row.vector_bytes + row.index_bytes, first.vector_bytes + first.index_bytes
        cells = [
            f"{row.dimension}",
            f"{row.vector_bytes}",
            f"{row.index_bytes:.0f}",
            f"{size / whole_size:.2f}",
        ]
        cells += [f"{row.p50_ms:.3f}", f"{row.p50_ms / first.p50_ms:.2f}"]
        cells += [f"{row.exact_ms:.3f}", f"{row.exact_ms / first.exact_ms:.2f}", f"{row.recall:.3f}"]
        for name in names:
            cells += [f"{row.precision[name]:.3f}", f"{row.precision[name] / first.precision[name]:.3f}"]
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    """Encode, measure each dimension, print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=8_000)
    arguments.add_argument("--family", default="hnsw-fp16", choices=FAMILIES[1:])
    arguments.add_argument("--dimensions", type=int, nargs="+", default=[1280, 512, 256, 128])
    arguments.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = arguments.parse_args()
    cv2.setNumThreads(1)
    cache = cache_folder()
    encoder = load_unprojected(Spec().encoder, cache_dir=cache, threads=asked.threads)
    labelled = collections(cache)
    count = sum(len(one.pictures) for one in labelled)
    start = time.perf_counter()
    stored = encoded(encoder, views(labelled, asked.rows, encoder.input, 17))
    queries = encoded(encoder, views(labelled, QUERIES, encoder.input, 23))
    pictures = {one.name: encoded(encoder, whole(one, encoder.input)) for one in labelled}
    print(
        f"{asked.rows:,} views of {count:,} pictures and {QUERIES} others as queries, encoded in "
        f"{time.perf_counter() - start:.0f} s",
        flush=True,
    )
    rows = measured(asked.family, stored, queries, asked.dimensions)
    for dimension, row in rows.items():
        row.precision = {
            one.name: precision(reduced(pictures[one.name], dimension), one.labels) for one in labelled
        }
    print(f"family {asked.family}\n")
    table(list(rows.values()), [one.name for one in labelled])


if __name__ == "__main__":
    main()
