"""Index families side by side on clustered vectors: what each takes to build, to hold and to search, beside Faiss alone.

    OMP_NUM_THREADS=1 python -m benchmarks.families [--rows 100000] [--dimension 512] [--target 0.95]

Every family is tuned to the same recall@10 on rows held out of it; the recall printed was measured with queries that no
index has seen. `build` is CPU time; `p50` is the median CPU time of one query on one thread, the families taking turns query
by query, so that a busy machine blurs them alike. `QPS` is wall-clock throughput on all cores in one process. `faiss` is
`IndexHNSWSQ` with half-precision codes, the same links, added at once and searched directly, at the least `efSearch` that
reaches the target.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from benchmarks.vectors import clustered, intrinsic_dimension
from visualindex.ann import codes as half
from visualindex.ann.families import Parameters, build_and_tune, held_out, open_ann, resident_bytes
from visualindex.ann.families.ladders import ladder
from visualindex.capacity.sizes import FAMILIES, disk_bytes

K = 10
Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass
class Contender:
    """One line of the table."""

    name: str
    search: Search
    build_s: float
    resident: int
    disk: int
    effort: str
    masked: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None


@contextmanager
def clock(times: list[float]) -> Iterator[None]:
    start = time.process_time()
    yield
    times.append(time.process_time() - start)


def ours(family: str, codes: np.ndarray, target: float, directory: Path, threads: int) -> Contender:
    took: list[float] = []
    with clock(took):
        built, report = build_and_tune(family, codes, target, Parameters(), threads=threads)
    (directory / family).mkdir()
    built.write(directory / family)
    index, effort = open_ann(directory / family, codes), report.chosen
    assert index is not None
    for point in report.curve:
        print(
            f"  {family:9} {point.effort}: recall {point.recall:.4f}, {point.latency_ms:.3f} ms", flush=True
        )
    size = sum(file.stat().st_size for file in (directory / family).iterdir())
    rows, dimension = len(codes), codes.shape[1] // 2
    formula = disk_bytes(family, rows, dimension, Parameters())
    print(f"  {family:9} disk: formula {formula:,}, measured {codes.nbytes + size:,}", flush=True)
    return Contender(
        family,
        lambda queries: index.search(queries, K, None, effort),
        took[0],
        resident_bytes(family, rows, dimension, Parameters()),
        codes.nbytes + size,
        " ".join(f"{name}={value}" for name, value in vars(effort).items() if value is not None),
        lambda queries, keep: index.search(queries, K, keep, effort),
    )


def flat(codes: np.ndarray) -> Contender:
    return Contender(
        "flat",
        lambda queries: half.scan(codes, queries, K, None),
        0.0,
        codes.nbytes,
        codes.nbytes,
        "exact",
        lambda queries, keep: half.scan(codes, queries, K, keep),
    )


def faiss_alone(vectors: np.ndarray, target: float, directory: Path, threads: int) -> Contender:
    """Held-out queries and the choice of `efSearch` as for ours."""
    parameters, took = Parameters(), []
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexHNSWSQ(
        vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, parameters.hnsw.m, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction = parameters.hnsw.ef_construction
    index.is_trained = index.storage.is_trained = True
    split = len(vectors) - held_out(len(vectors))
    codes, queries = half.encode(vectors[:split]), vectors[split:]
    with clock(took):
        index.add(vectors[:split])
    truth = half.scan(codes, queries, K, None)[0]
    for effort in ladder("hnsw-fp16", split, vectors.shape[1], parameters):
        index.hnsw.efSearch = effort.ef_search
        recalls = (index.search(queries, K)[0] >= truth[:, -1:]).mean(axis=1)
        if recalls.mean() - recalls.std() / len(recalls) ** 0.5 >= target:
            break
    faiss.omp_set_num_threads(threads)
    with clock(took):
        index.add(vectors[split:])
    path = directory / "alone"
    faiss.write_index(index, str(path))
    size = path.stat().st_size
    chosen = f"ef_search={index.hnsw.efSearch}"
    return Contender("faiss", lambda queries: index.search(queries, K), sum(took), size, size, chosen)


def medians(contenders: list[Contender], queries: np.ndarray) -> dict[str, float]:
    """Median CPU milliseconds of one query, in turns."""
    times: dict[str, list[float]] = {one.name: [] for one in contenders}
    faiss.omp_set_num_threads(1)
    for at in range(len(queries)):
        for one in contenders:
            start = time.thread_time()
            one.search(queries[at : at + 1])
            times[one.name].append(time.thread_time() - start)
    return {name: statistics.median(taken) * 1e3 for name, taken in times.items()}


def throughput(one: Contender, queries: np.ndarray, threads: int, seconds: float) -> float:
    """Queries per second of wall-clock time, asked one by one on `threads` threads."""
    end, done = time.monotonic() + seconds, [0] * threads

    def ask(thread: int) -> None:
        faiss.omp_set_num_threads(1)
        at = thread
        while time.monotonic() < end:
            one.search(queries[at % len(queries)][None])
            at += threads
            done[thread] += 1

    workers = [threading.Thread(target=ask, args=(thread,)) for thread in range(threads)]
    start = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.monotonic() - start)


def recall(scores: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean(scores >= truth[:, -1:]))


def table(contenders: list[Contender], codes: np.ndarray, queries: np.ndarray, threads: int) -> None:
    truth = half.scan(codes, queries, K, None)[0]
    p50 = medians(contenders, queries)
    print(
        "\n| family | build CPU s | hot B/row | disk B/row | effort | recall@10 | p50 ms | QPS |\n|"
        + "---|" * 8
    )
    for one in contenders:
        found = recall(np.concatenate([one.search(query[None])[0] for query in queries]), truth)
        rate = throughput(one, queries, threads, 3.0)
        rows = len(codes)
        print(
            f"| {one.name} | {one.build_s:.0f} | {one.resident / rows:.0f} | {one.disk / rows:.0f} | {one.effort} "
            f"| {found:.4f} | {p50[one.name]:.3f} | {rate:,.0f} |",
            flush=True,
        )


def filtered(contenders: list[Contender], codes: np.ndarray, queries: np.ndarray) -> None:
    """Recall and median CPU time under masks that keep a random share, and under one of the rows far from the query."""
    random = np.random.default_rng(5)
    print("\n| family | kept 50 % | 10 % | 1 % | 0.1 % | 10 %, the farthest |\n|" + "---|" * 6)
    masks = [random.random(len(codes)) < share for share in (0.5, 0.1, 0.01, 0.001)]
    asked = queries[:100]
    far = half.decode(codes) @ asked[0]
    masks.append(far < np.quantile(far, 0.1))
    for one in contenders:
        if one.masked is None:
            continue
        cells = []
        for keep in masks:
            batch = asked if keep is not masks[-1] else asked[:1].repeat(20, axis=0)
            truth = half.scan(codes, batch, K, keep)[0]
            times, scores = [], []
            for query in batch:
                start = time.thread_time()
                scores.append(one.masked(query[None], keep)[0])
                times.append(time.thread_time() - start)
            cells.append(
                f"{recall(np.concatenate(scores), truth):.3f}, {statistics.median(times) * 1e3:.2f} ms"
            )
        print(f"| {one.name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--dimension", type=int, default=512)
    arguments.add_argument("--target", type=float, default=0.95)
    arguments.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = arguments.parse_args()
    vectors = clustered(asked.rows, asked.dimension, seed=0)
    queries = clustered(1000, asked.dimension, seed=1)
    codes = half.encode(vectors)
    print(
        f"{asked.rows:,} x {asked.dimension}, intrinsic dimension about {intrinsic_dimension(vectors):.0f}, "
        f"{asked.threads} threads, target {asked.target}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as directory:
        contenders = [flat(codes), faiss_alone(vectors, asked.target, Path(directory), asked.threads)]
        contenders += [
            ours(family, codes, asked.target, Path(directory), asked.threads) for family in FAMILIES[1:]
        ]
        table(contenders, codes, queries, asked.threads)
        filtered(contenders, codes, queries)


if __name__ == "__main__":
    main()
