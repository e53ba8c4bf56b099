"""What one shard replica costs: search latency, load and apply rates, filters, against a numpy scan.

    OMP_NUM_THREADS=1 python benchmarks/ann.py [--rows 1000 20000 100000] [--dimension 256]

Times are CPU milliseconds of one thread (`time.thread_time`), the median of 30 calls, so that a busy machine blurs them less
than wall time would. The numpy baseline is `argpartition(queries @ vectors.T)` over float32 vectors.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from visualindex.ann import Deletes, Hits, ShardIndex, Upserts
from visualindex.filters import parse_filter
from visualindex.spec.models import HnswSpec

FILTERS = {
    "eq, 2 % match": {"eq": {"category": "c1"}},
    "in, 20 % match": {"in": {"category": [f"c{n}" for n in range(10)]}},
    "range, 50 % match": {"range": {"metadata.price": {"lt": 500}}},
    "prefix of unique keys, 11 % match": {"prefix": {"key": "sku-1"}},
    "not, 98 % match": {"not": {"eq": {"category": "c1"}}},
}


def vectors_of(rows: int, dimension: int, seed: int) -> np.ndarray:
    """Unit vectors around 1,000 centres."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((1000, dimension), np.float32)
    vectors = centres[random.integers(0, 1000, rows)] + 0.8 * random.standard_normal(
        (rows, dimension), np.float32
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows_of(vectors: np.ndarray, first: int = 0, version: int = 1) -> Upserts:
    count = len(vectors)
    ids = np.zeros((count, 16), np.uint8)
    ids[:, 8:] = np.arange(first, first + count, dtype=">u8")[:, None].view(np.uint8)
    about = [
        {
            "category": f"c{n % 50}",
            "key": f"sku-{n}",
            "metadata": {"price": n % 1000, "tags": ["a", f"t{n % 7}"]},
        }
        for n in range(first, first + count)
    ]
    return Upserts(ids, vectors, about, np.full(count, version))


def milliseconds(call: Callable[[], object], repeats: int = 30) -> float:
    """Median CPU time of one call."""
    call()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return statistics.median(times) * 1e3


def numpy_scan(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    scores = queries @ vectors.T
    return np.argpartition(scores, -k, axis=1)[:, -k:]


def recall(found: Hits, truth: Hits) -> float:
    def ids(hits: Hits, query: int) -> set[bytes]:
        return {key.tobytes() for key in hits.ids[query, : hits.counts[query]]}

    return statistics.mean(
        len(ids(found, at) & ids(truth, at)) / truth.counts[at] for at in range(len(truth.counts))
    )


def loaded(vectors: np.ndarray, flat_below: int) -> ShardIndex:
    index = ShardIndex(vectors.shape[1], flat_below=flat_below, hnsw=HnswSpec(), memory_limit=1 << 34)
    index.load(rows_of(vectors[at : at + 5000], at) for at in range(0, len(vectors), 5000))
    return index


def searches(name: str, index: ShardIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
    for batch in (1, 8):
        asked = queries[:batch]
        ours = milliseconds(lambda asked=asked: index.search(asked, 10)) / batch
        theirs = milliseconds(lambda asked=asked: numpy_scan(vectors, asked, 10)) / batch
        row = (
            f"{name:5} {len(vectors):>8,} {batch:>5} {ours:>9.3f} ms {theirs:>9.3f} ms {theirs / ours:>7.1f}x"
        )
        print(row, flush=True)


def filtered(index: ShardIndex, truth: ShardIndex, queries: np.ndarray) -> None:
    print(f"\n{len(index):,} rows: filter, search with it (k = 10), recall@10 of the graph")
    for name, document in FILTERS.items():
        tree = parse_filter(document)
        took = milliseconds(lambda tree=tree: index.search(queries[:1], 10, tree))
        mask = milliseconds(lambda tree=tree: index._state.attributes.mask(tree, index._state.rows))
        found = recall(index.search(queries[:50], 10, tree), truth.search(queries[:50], 10, tree))
        print(f"{name:36} mask {mask:>7.3f} ms  search {took:>7.3f} ms  recall {found:.3f}", flush=True)


def writes(index: ShardIndex, vectors: np.ndarray) -> None:
    start = time.thread_time()
    for at in range(0, 2000, 100):
        index.apply(rows_of(vectors[at : at + 100], at, version=2))
    print(f"apply: {2000 / (time.thread_time() - start):,.0f} replacements/s in batches of 100", flush=True)
    start = time.thread_time()
    index.apply(None, Deletes(rows_of(vectors[:1000]).ids))
    print(f"delete: {1000 / (time.thread_time() - start):,.0f} rows/s in one batch", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, nargs="+", default=[1000, 20_000, 100_000])
    arguments.add_argument("--dimension", type=int, default=256)
    arguments.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="threads of the graph's build"
    )
    asked = arguments.parse_args()
    queries = vectors_of(100, asked.dimension, seed=2)
    print("index     rows batch   per query   numpy scan  ratio", flush=True)
    for rows in asked.rows:
        vectors = vectors_of(rows, asked.dimension, seed=3)
        start = time.thread_time()
        flat = loaded(vectors, flat_below=1 << 40)
        took = time.thread_time() - start
        searches("flat", flat, vectors, queries)
        if rows == max(asked.rows):
            graph = loaded(vectors, flat_below=1 << 40)
            graph._plan = type(graph._plan)(20_000 if rows > 20_000 else rows - 1, HnswSpec())
            began = time.perf_counter()
            graph.maintain(asked.threads)
            build = time.perf_counter() - began
            searches("hnsw", graph, vectors, queries)
            print(
                f"\nload: {rows / took:,.0f} rows/s; graph of {rows:,} rows: {build:.1f} s wall, {asked.threads} threads"
            )
            print(
                f"memory: {graph.memory_bytes / rows:,.0f} bytes/row with the graph, {flat.memory_bytes / rows:,.0f} without"
            )
            print(
                f"recall@10 of the graph: {recall(graph.search(queries, 10), flat.search(queries, 10)):.4f}"
            )
            filtered(graph, flat, queries)
            writes(flat, vectors)
            graph.close()


if __name__ == "__main__":
    main()
