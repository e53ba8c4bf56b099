"""What a replica's start costs: a shard published, fetched, and opened from the node's cache by one process and by a second.

    python -m benchmarks.opening --rows 1000000

Opened means ready to answer: every file verified by its digests, the segment mapped, the rows of the shard's buckets marked,
and one search answered. Pss is what a process takes of memory when pages that several map are divided among them. The graph
is a cheap one (`--ef-construction`): what it costs to open does not depend on how good it is.
"""

import argparse
import asyncio
import gc
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.engine.vectors import clustered
from visualindex.ann import Base, ShardIndex, open_segment
from visualindex.building.segments import build_segment
from visualindex.building.spool import Spool
from visualindex.catalog import Rows
from visualindex.generations import (
    FORMAT,
    Manifest,
    NodeCache,
    list_generations,
    publish,
    read_manifest,
)
from visualindex.identity import BUCKETS
from visualindex.objectstore import LocalObjectStore
from visualindex.spec.models import HnswSpec, IndexSpec

_INDEX = "bench"
_DIMENSION = 512
_PART_ROWS = 50_000
_CACHE_BYTES = 1 << 40
_ALL = range(BUCKETS)
_NOISE = 0.02


def main() -> None:
    """Build, publish, fetch and open; or, with --open, open alone and tell what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--ef-construction", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="openings of each kind; medians are printed")
    parser.add_argument(
        "--folder", type=Path, help="keep the files here, and take them from here when they are there"
    )
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open is not None:
        told, held = asyncio.run(_opened(options.open))
        print(json.dumps(told), flush=True)
        sys.stdin.readline()  # the parent looks while everything is mapped
        held.close()
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "store").is_dir():
            asyncio.run(_published(folder, options.rows, options.ef_construction))
        _measure(folder, options.rounds)


async def _published(folder: Path, rows: int, ef_construction: int) -> None:
    built = folder / "built"
    built.mkdir(parents=True)
    began = time.perf_counter()
    _build(folder, built, rows, ef_construction)
    print(f"{rows:,} x {_DIMENSION}, built in {time.perf_counter() - began:.0f} s")
    store = LocalObjectStore(folder / "store")
    manifest = await publish(store, _INDEX, _manifest(), [(_ALL, rows, built)])
    await store.close()
    print(f"{sum(file.bytes for file in manifest.shards[0].files) / 1e6:,.0f} MB in files\n", flush=True)


def _measure(folder: Path, rounds: int) -> None:
    shutil.rmtree(folder / "cache", ignore_errors=True)
    first = _told(folder)
    print(f"fetched and opened: {first['seconds']:.2f} s, first search {first['search_ms']:.1f} ms")
    alone = [_told(folder) for _ in range(rounds)]
    print(
        f"opened from the cache: {_median(alone, 'seconds'):.2f} s ({_median(alone, 'cpu'):.2f} s of CPU), ",
        end="",
    )
    print(f"first search {_median(alone, 'search_ms'):.1f} ms, Pss {_median(alone, 'pss_mb'):,.0f} MB")
    with _held(folder) as other:
        told = _line(other)
        beside = _told(folder)
        print(
            f"beside another replica: {beside['seconds']:.2f} s, Pss {beside['pss_mb']:,.0f} MB of "
            f"{beside['rss_mb']:,.0f} MB resident (the other, alone: {told['pss_mb']:,.0f} MB)"
        )
        _end(other)


def _build(folder: Path, built: Path, rows: int, ef_construction: int) -> None:
    spool = Spool(folder, _DIMENSION)
    with spool:
        for first in range(0, rows, _PART_ROWS):
            spool.add(_rows(first, min(_PART_ROWS, rows - first)))
    hnsw = HnswSpec(ef_construction=ef_construction)
    build_segment(spool, built, IndexSpec(family="hnsw", hnsw=hnsw, target_recall=0.5), threads=2)
    spool.remove()


def _rows(first: int, count: int) -> Rows:
    vectors, labels = clustered(count, _DIMENSION)
    vectors = vectors + np.random.default_rng(first).standard_normal(vectors.shape, np.float32) * _NOISE
    ids = np.random.default_rng(first + 1).integers(0, 256, (count, 16), np.uint8)
    return Rows(
        ids=ids,
        vectors=vectors.astype(np.float16),
        versions=np.arange(first, first + count, dtype=np.int64),
        categories=[f"c{label}" for label in labels.tolist()],
        keys=[f"k{first + n}" for n in range(count)],
        metadata=[{} for _ in range(count)],
        colours=np.zeros((count, 5, 4), np.uint8),
    )


async def _opened(folder: Path) -> tuple[dict[str, float], ShardIndex]:
    """Open as a replica does and answer one search."""
    gc.collect()
    store, cache = LocalObjectStore(folder / "store"), NodeCache(folder / "cache", _CACHE_BYTES)
    (generation,) = await list_generations(store, _INDEX)
    began, cpu = time.perf_counter(), time.process_time()
    manifest = await read_manifest(store, _INDEX, generation)
    lease = await cache.fetch(store, _INDEX, manifest, 0)
    base = Base.of(open_segment(lease.directory, _DIMENSION), _ALL)
    spec = IndexSpec()
    index = ShardIndex(
        _DIMENSION, flat_below=spec.flat_below, hnsw=spec.hnsw, memory_limit=_CACHE_BYTES, bases=[base]
    )
    taken = time.perf_counter() - began
    query = clustered(1, _DIMENSION)[0]
    searching = time.perf_counter()
    index.search(query, 10)
    search_ms = (time.perf_counter() - searching) * 1000
    memory = psutil.Process().memory_full_info()
    told = {
        "seconds": taken,
        "cpu": time.process_time() - cpu,
        "search_ms": search_ms,
        "pss_mb": memory.pss / 1e6,
        "rss_mb": memory.rss / 1e6,
    }
    return told, index


def _held(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.opening", "--open", str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _told(folder: Path) -> dict[str, float]:
    with _held(folder) as process:
        told = _line(process)
        _end(process)
    return told


def _line(process: "subprocess.Popen[str]") -> dict[str, float]:
    assert process.stdout is not None
    told: dict[str, float] = json.loads(process.stdout.readline())
    return told


def _end(process: "subprocess.Popen[str]") -> None:
    process.communicate("\n")


def _median(found: list[dict[str, float]], name: str) -> float:
    return float(np.median([one[name] for one in found]))


def _manifest() -> Manifest:
    about: dict[str, Any] = {"parameters": {}, "recall": {}, "release": "", "created_at": "", "watermark": ""}
    return Manifest(
        format=FORMAT, index=_INDEX, fingerprint="", dimension=_DIMENSION, metric="cosine", shards=(), **about
    )


if __name__ == "__main__":
    main()
