"""Recall where a filter leaves out just what lies near the query, of every family at the effort that its build chose.

`python -m benchmarks.left_out` asks for the neighbours of queries without those in the n categories nearest to each ("not
these kinds"), through `ShardIndex`, as a shard does, and compares with the exact scan of what passes. Categories are the
cells of k-means over rows that are drawn apart.
"""

import argparse
import tempfile
from pathlib import Path

import faiss
import numpy as np

from benchmarks.vectors import clustered
from visualindex.ann import Ask, Base, ShardIndex, open_segment, write_segment
from visualindex.ann import codes as half
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.families import Parameters, build_and_tune
from visualindex.ann.segment import VECTORS
from visualindex.filters import Filter, parse_filter
from visualindex.identity import BUCKETS, buckets_of
from visualindex.spec.models import HnswSpec

FAMILIES = ("hnsw-fp16", "hnsw-sq8", "ivf-sq8", "ivf-pq", "rabitq")
CATEGORIES = 200
LEFT_OUT = (0, 1, 2, 5, 20, 60, 120, 180)
K = 10


def centres(dimension: int) -> np.ndarray:
    """The middles of the categories, float32 [200, dimension]."""
    learned = faiss.Kmeans(dimension, CATEGORIES, niter=10, seed=1, spherical=True)
    learned.train(clustered(20_000, dimension, 8))
    return np.asarray(learned.centroids).reshape(CATEGORIES, dimension)


def opened(family: str, vectors: np.ndarray, category: np.ndarray, target: float, folder: Path) -> ShardIndex:
    """A shard over one segment of these rows."""
    codes = half.encode(vectors)
    codes.tofile(folder / VECTORS)
    ann, report = build_and_tune(family, codes, target, Parameters())
    print(f"{family}: effort {report.chosen}, recall {report.recall:.4f}, met {report.met}", flush=True)
    ids = np.random.default_rng(4).integers(0, 256, (len(vectors), 16), np.uint8)
    write_segment(
        folder,
        ids=ids,
        versions=np.arange(len(vectors)),
        buckets=buckets_of(ids),
        attributes=AttributeColumns.build({"metadata.category": {int(one)}} for one in category),
        ann=ann,
    )
    base = Base.of(open_segment(folder, vectors.shape[1]), range(BUCKETS))
    return ShardIndex(vectors.shape[1], flat_below=1000, hnsw=HnswSpec(), memory_limit=1 << 34, bases=[base])


def without(nearest: np.ndarray) -> Filter | None:
    """All but the categories that are named."""
    if not len(nearest):
        return None
    return parse_filter({"not": {"in": {"metadata.category": [int(one) for one in nearest]}}})


def recall(index: ShardIndex, queries: np.ndarray, order: np.ndarray, left_out: int) -> tuple[float, float]:
    """Mean recall@10 and its standard error; `order` int [q, categories] has the nearest first."""
    shares = []
    for query, nearest in zip(queries, order, strict=True):
        ask = Ask(K, without(nearest[:left_out]))
        hits, exact = (index.look(query[None], ask, exact=how).hits for how in (False, True))
        shares.append(np.mean(hits.scores[0] >= exact.scores[0, -1]))
    return float(np.mean(shares)), float(np.std(shares) / len(shares) ** 0.5)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    asked = parser.parse_args()
    middles = centres(asked.dimension)
    vectors, queries = (
        clustered(count, asked.dimension, seed) for count, seed in ((asked.rows, 0), (asked.queries, 9))
    )
    category, order = (vectors @ middles.T).argmax(axis=1), np.argsort(-(queries @ middles.T), axis=1)
    columns = []
    for family in asked.families:
        with tempfile.TemporaryDirectory() as folder:
            index = opened(family, vectors, category, asked.target, Path(folder))
            columns.append([recall(index, queries, order, left_out) for left_out in LEFT_OUT])
            index.close()
    print(f"\n| left out | passes | {' | '.join(asked.families)} |\n" + "|---" * (2 + len(columns)) + "|")
    for at, left_out in enumerate(LEFT_OUT):
        passes = np.mean([~np.isin(category, nearest[:left_out]) for nearest in order])
        cells = " | ".join(f"{column[at][0]:.3f} ± {column[at][1]:.3f}" for column in columns)
        print(f"| {left_out} | {passes:.3f} | {cells} |")


if __name__ == "__main__":
    main()
