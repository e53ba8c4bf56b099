"""What a search costs as an index grows and as it is divided: rows by shards, in process.

Every shard is searched for every query, one after the other on the caller's thread, and the answers are merged: the whole
cost of a search, which a cluster spreads over its nodes. The effort is tuned for each shape on its own.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.engine import measure
from benchmarks.engine.peers import ours
from benchmarks.engine.vectors import TOP, Dataset, Numbers, Vectors, clustered, divided
from visualindex.ann import Hits, merge_hits

SHARDS = (1, 2, 4, 8)
SIZES = (10_000, 100_000)
FULL_SIZES = (*SIZES, 1_000_000)
_DIMENSION = 512
_QUERIES = 500
_HEAD = (
    "rows",
    "shards",
    "build s",
    "memory MB",
    "effort",
    "recall@10",
    "p50 ms",
    "p99 ms",
    "CPU ms",
    "searches/s",
    "load",
)


class Divided:
    """Shards of equal size over a data set's rows, searched as one engine."""

    name = "VisualIndex"
    efforts: Sequence[int] = ours.Engine.efforts

    def __init__(self, shards: int, folder: Path) -> None:
        self._shards = [ours.Engine(folder) for _ in range(shards)]

    def build(self, data: Dataset) -> None:
        """Give every shard its rows, one shard after the other on all threads."""
        bounds = np.linspace(0, len(data.vectors), len(self._shards) + 1).astype(int)
        for shard, first, end in zip(self._shards, bounds[:-1], bounds[1:], strict=True):
            shard.take(int(first), data.vectors[first:end], data.labels[first:end])

    def tune(self, effort: int) -> None:
        """The same effort in every shard."""
        for shard in self._shards:
            shard.tune(effort)

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers:
        """Ask every shard and merge."""
        answers: list[Hits] = [shard.hits(query, label, k) for shard in self._shards]
        return ours.rows_of(answers[0] if len(answers) == 1 else merge_hits(answers, k))

    @property
    def memory_bytes(self) -> int:
        """What the shards say they hold."""
        return sum(shard.memory_bytes for shard in self._shards)

    def close(self) -> None:
        """Stop maintenance."""
        for shard in self._shards:
            shard.close()


@dataclass(frozen=True)
class Shape:
    """One row of the table."""

    rows: int
    shards: int
    build_s: float
    memory_mb: float
    effort: int
    recall: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    per_second: float
    load_average: float

    @property
    def cells(self) -> list[str]:
        """As the table shows it."""
        counts = [f"{self.rows:,}", str(self.shards), f"{self.build_s:.1f}", f"{self.memory_mb:.0f}"]
        found = [str(self.effort), f"{self.recall:.3f}", f"{self.p50_ms:.2f}", f"{self.p99_ms:.2f}"]
        return [*counts, *found, f"{self.cpu_ms:.2f}", f"{self.per_second:,.0f}", f"{self.load_average:.1f}"]


def shape(data: Dataset, shards: int, seconds: float) -> Shape:
    """Build, tune and time one shape."""
    with TemporaryDirectory() as folder:
        engine = Divided(shards, Path(folder))
        began = time.perf_counter()
        engine.build(data)
        built = time.perf_counter() - began
        rates = measure.searched(engine, data, None, data.truth, seconds)
        began = time.thread_time()
        for query in data.queries:
            engine.search(query, None, TOP)
        each = (time.thread_time() - began) * 1000 / len(data.queries)
        memory = engine.memory_bytes / 1e6
        engine.close()
    found = (rates.effort, rates.recall, rates.p50_ms, rates.p99_ms)
    return Shape(len(data.vectors), shards, built, memory, *found, each, rates.per_second, os.getloadavg()[0])


def run(full: bool, seconds: float) -> None:
    """Print a row for each shape as it is measured."""
    print(f"| {' | '.join(_HEAD)} |\n{'|---' * len(_HEAD)}|", flush=True)
    for rows in FULL_SIZES if full else SIZES:
        made = clustered(rows + _QUERIES, _DIMENSION)
        data = divided(*made, queries=_QUERIES, spare=0, seed=3)
        for shards in SHARDS:
            print(f"| {' | '.join(shape(data, shards, seconds).cells)} |", flush=True)
