"""Recall and latency of filtered searches, from every row passing to one in ten thousand, and whoever passes.

`python -m benchmarks.filtered` builds one segment with an HNSW graph, asks it through `ShardIndex`, as a shard does, and
compares with exact search over the rows that pass. Filters are of three kinds: `random` rows pass; rows `near` the query
pass (one asks for beds with a bed); rows `far` from it do (one asks for lamps with a bed), which is where graphs get lost.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.vectors import clustered
from visualindex.ann import Ask, Base, ShardIndex, open_segment, write_segment
from visualindex.ann import codes as half
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.families import Parameters, build_and_tune
from visualindex.ann.segment import VECTORS
from visualindex.filters import parse_filter
from visualindex.identity import BUCKETS, buckets_of
from visualindex.spec.models import HnswSpec

SELECTIVITIES = (1.0, 0.5, 0.1, 0.01, 0.001, 0.0001)
KINDS = ("random", "near", "far")
K = 10


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    kind: str
    share: float
    matching: int
    recall: float
    p50_ms: float
    p99_ms: float
    exact_ms: float
    way: str


def collection(rows: int, dimension: int, family: str, directory: Path) -> tuple[ShardIndex, np.ndarray]:
    """A shard over one segment whose rows say, for each kind of filter, where they stand among all."""
    vectors = clustered(rows, dimension, 1)
    # The direction that queries point to: rows are near or far along it.
    heading = clustered(1, dimension, 2)[0]
    along = np.argsort(np.argsort(-(vectors @ heading))) / rows
    luck = np.random.default_rng(3).permutation(rows) / rows
    codes = half.encode(vectors)
    codes.tofile(directory / VECTORS)
    ids = np.random.default_rng(4).integers(0, 256, (rows, 16), np.uint8)
    flat = (
        {"metadata.random": {float(a)}, "metadata.near": {float(b)}, "metadata.far": {float(1 - b)}}
        for a, b in zip(luck, along, strict=True)
    )
    started = time.perf_counter()
    ann, report = (
        (None, None)
        if family == "flat"
        else build_and_tune(family, codes, 0.95, Parameters(HnswSpec()), threads=2)
    )
    took = time.perf_counter() - started
    if report is not None:
        print(f"{family}: built in {took:.0f} s, effort {report.chosen}, recall {report.recall:.3f}")
    write_segment(
        directory,
        ids=ids,
        versions=np.arange(rows),
        buckets=buckets_of(ids),
        attributes=AttributeColumns.build(flat),
        ann=ann,
    )
    base = Base.of(open_segment(directory, dimension), range(BUCKETS))
    index = ShardIndex(dimension, flat_below=20_000, hnsw=HnswSpec(), memory_limit=1 << 34, bases=[base])
    return index, heading


def measured(index: ShardIndex, dimension: int, heading: np.ndarray, queries: int) -> Iterator[Row]:
    """Every kind of filter at every selectivity; queries lie around the heading."""
    drawn = np.random.default_rng(5).standard_normal((queries, dimension)).astype(np.float32)
    asked = heading + 0.5 * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    base = index._state.bases[0]
    vectors = half.decode(np.ascontiguousarray(base.segment.codes))
    for kind in KINDS:
        for share in SELECTIVITIES:
            tree = parse_filter({"range": {f"metadata.{kind}": {"lt": share}}})
            mask = base.segment.attributes.mask(tree, base.segment.rows)
            passing = np.flatnonzero(mask)
            found, times, exact_times = [], [], []
            for query in asked:
                start = time.perf_counter()
                looked = index.look(query[None], Ask(K, tree))
                times.append(time.perf_counter() - start)
                start = time.perf_counter()
                truth = np.sort(vectors[passing] @ query)[-K:]
                exact_times.append(time.perf_counter() - start)
                scores = looked.hits.scores[0, : int(looked.hits.counts[0])]
                found.append(np.count_nonzero(scores >= truth[0] - 1e-5) / min(K, len(passing)))
            yield Row(
                kind,
                share,
                len(passing),
                float(np.mean(found)),
                float(np.median(times)) * 1e3,
                float(np.quantile(times, 0.99)) * 1e3,
                float(np.median(exact_times)) * 1e3,
                looked.plans[0].way.value,
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--family", default="hnsw-fp16")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index, heading = collection(arguments.rows, arguments.dimension, arguments.family, Path(folder))
        print("| filter | passes | rows | recall@10 | p50 ms | p99 ms | numpy exact ms | way |")
        print("|---|---|---|---|---|---|---|---|")
        for row in measured(index, arguments.dimension, heading, arguments.queries):
            print(
                f"| {row.kind} | {row.share:g} | {row.matching} | {row.recall:.3f} | {row.p50_ms:.2f} | "
                f"{row.p99_ms:.2f} | {row.exact_ms:.2f} | {row.way} |"
            )
        index.close()


if __name__ == "__main__":
    main()
