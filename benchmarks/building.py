"""How long a generation takes with one builder and with several, in the same run, and the disk and memory at their height.

    flock /tmp/bench.lock python -m benchmarks.building

A catalog is filled with clustered vectors; then the same images are built by turns with each number of builders, each
time in a process of its own, one thread for each builder, and published to an empty folder. The files must be the same.
Scratch is what the build's folder holds at its height, sampled every 20 ms, memory what the process has beyond what it had
before (`RssAnon`): the rows that are being read and the parts that are being sent are in it, and in no formula. Before each
build as many processes as there are builders at most count for two seconds: `cores free` is the CPU time they get of the
wall-clock time, and no builder can have more.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.serving.pictures import fresh_database

from benchmarks.vectors import clustered
from visualindex.building import build_generation
from visualindex.building.affording import afford
from visualindex.capacity.coefficients import DEFAULTS
from visualindex.capacity.formulas import build_memory, rows_of_largest, scratch_bytes
from visualindex.capacity.machine import room
from visualindex.capacity.wording import size
from visualindex.catalog import Catalog, EmbeddedPostgres, ImageWrite, migrate
from visualindex.identity import content_digest
from visualindex.objectstore import LocalObjectStore
from visualindex.spec import API_VERSION, KIND, VisualIndex

NAME, FINGERPRINT = "bench", "f" * 16
_WRITTEN = 1_000
_LOOK_S = 0.02


def resource(arguments: argparse.Namespace, builders: int) -> VisualIndex:
    """The index, with so many builders."""
    index = {"shards": arguments.shards, "family": arguments.family, "memoryPerShard": "4Gi"}
    spec = {
        "encoder": {"dimension": arguments.dimension},
        "index": index,
        "reindex": {"builders": builders},
    }
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": NAME}, "spec": spec}
    return VisualIndex.model_validate(document)


class Height:
    """The most that a folder holds, and that this process takes of memory beyond what it has now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = _anonymous()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.scratch = 0
        self.memory = 0

    def __enter__(self) -> "Height":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self.scratch = max(self.scratch, _held(self._folder))
            self.memory = max(self.memory, _anonymous() - self._before)


def _held(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it has just been removed
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


async def fill(catalog: Catalog, first: int, count: int, dimension: int) -> None:
    """Write images with clustered vectors."""
    vectors = clustered(count, dimension, seed=first)
    for start in range(0, count, _WRITTEN):
        writes = [
            ImageWrite(
                image_id=uuid.uuid5(uuid.NAMESPACE_OID, str(first + number)),
                content_digest=content_digest(str(first + number).encode()),
                media_type="image/jpeg",
                width=320,
                height=240,
                size_bytes=10_000,
                embeddings={(0, FINGERPRINT): vectors[number]},
                category=f"category {number % 50}",
                metadata={
                    "number": first + number,
                    "title": f"A thing of shop {number % 97}",
                    "price": number % 500,
                },
            )
            for number in range(start, min(count, start + _WRITTEN))
        ]
        await catalog.put_images(NAME, writes)


async def one_build(arguments: argparse.Namespace, dsn: str, root: Path, builders: int) -> dict[str, Any]:
    """One generation, to an empty store: its seconds, and what it took at its height."""
    scratch = root / "building"
    catalog = await Catalog.open(dsn, max_connections=3, timeout_s=120)
    store = LocalObjectStore(root / "objects")
    try:
        with Height(scratch) as height:
            began, cpu = time.perf_counter(), time.process_time()
            of = resource(arguments, builders)
            built = await build_generation(catalog, store, of, scratch, threads=builders)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    finally:
        await store.close()
        await catalog.close()
    return {
        "builders": builders,
        "seconds": seconds,
        "cpu_s": cpu,
        "scratch": height.scratch,
        "memory": height.memory,
        "bytes": built.bytes,
        "contents": built.contents,
        "recall": built.recall,
    }


def in_a_process(arguments: argparse.Namespace, dsn: str, builders: int) -> dict[str, Any]:
    """`one_build` in a process of its own."""
    free = cores_free(max(arguments.builders))
    with tempfile.TemporaryDirectory() as root:
        same = [f"--{name}={getattr(arguments, name)}" for name in ("shards", "rows", "dimension", "family")]
        command = [sys.executable, "-m", "benchmarks.building", *same, "--one", dsn, root, str(builders)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = {**json.loads(done.stdout.splitlines()[-1]), "cores_free": free}
    print(json.dumps(found), flush=True)
    return found


def _count(seconds: float) -> float:
    """CPU seconds that a busy process gets."""
    began, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        pass
    return time.process_time() - cpu


def cores_free(processes: int, seconds: float = 2.0) -> float:
    """How many cores other work leaves to so many busy processes."""
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_count, [0.01] * processes))  # started
        return sum(pool.map(_count, [seconds] * processes)) / seconds


async def filled(dsn: str, arguments: argparse.Namespace) -> None:
    """An index with all images."""
    await migrate(dsn)
    catalog = await Catalog.open(dsn, max_connections=4, timeout_s=120)
    try:
        await catalog.ensure_index(NAME, FINGERPRINT, arguments.dimension)
        await fill(catalog, 0, arguments.shards * arguments.rows, arguments.dimension)
    finally:
        await catalog.close()


def run(dsn: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Take turns."""
    asyncio.run(filled(dsn, arguments))
    turns = [builders for _ in range(arguments.rounds) for builders in arguments.builders]
    return [in_a_process(arguments, dsn, builders) for builders in turns]


def table(found: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    """Medians, beside what the formulas say."""
    assert len({one["contents"] for one in found}) == 1, "the files differ"
    spec = resource(arguments, 1).spec
    rows = rows_of_largest(arguments.shards * arguments.rows, arguments.shards)
    family = "hnsw-fp16" if arguments.family == "hnsw" else arguments.family
    disk = scratch_bytes(spec, family, rows, DEFAULTS)
    memory = build_memory(spec, family, rows, DEFAULTS)
    lines = [
        "| builders | seconds | ratio | cores free | CPU s | scratch at most | by formula | memory at most | by formula |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = 0.0
    for builders in arguments.builders:
        each = [one for one in found if one["builders"] == builders]
        seconds = statistics.median(one["seconds"] for one in each)
        first = first or seconds
        cpu = statistics.median(one["cpu_s"] for one in each)
        free = statistics.median(one["cores_free"] for one in each)
        most = [max(one[name] for one in each) for name in ("scratch", "memory")]
        lines.append(
            f"| {builders} | {seconds:.1f} | {seconds / first:.2f} | {free:.2f} | {cpu:.1f} | {size(most[0])} | "
            f"{size(builders * disk)} | {size(most[1])} | {size(builders * memory)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print each build and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rows", type=int, default=25_000, help="of each shard")
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--family", default="hnsw")
    parser.add_argument("--builders", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", nargs=3, metavar=("DSN", "FOLDER", "BUILDERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        dsn, root, builders = arguments.one
        print(json.dumps(asyncio.run(one_build(arguments, dsn, Path(root), int(builders)))))
        return
    folder = Path(tempfile.mkdtemp(prefix="vi-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "postgres")
    server.start()
    try:
        with fresh_database(server) as dsn:
            chosen = resource(arguments, 0).spec
            images = arguments.shards * arguments.rows
            cpus = os.cpu_count() or 1
            at_once = afford(chosen, arguments.dimension, images, room(folder), cpus=cpus)
            print(f"builders: 0 would choose {at_once}", flush=True)
            print(table(run(dsn, arguments), arguments))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
