"""The coefficients of `visualindex plan`, measured on this machine: what a row, a write, a build and a picture takes.

    OMP_NUM_THREADS=1 nice python -m benchmarks.coefficients [--rows 20000] [--builds 5000 10000 20000] [--json FILE]

Rows are synthetic: clustered vectors, and the metadata of a product (about 230 bytes of JSON) with five colours. Bytes are
counted, so that a busy machine changes nothing; times are CPU seconds of the process that works, which other work blurs by
some ten percent, but for `read_rows_per_s` and `commit_rows_per_s`, which are wall-clock time. Each build runs in a process
of its own, whose largest memory, mapped files not counted, is that of the build. The JSON that is printed at the end is what
`visualindex plan --coefficients` takes, and what the defaults of `visualindex.capacity.coefficients` were pasted from.
Some are not measured here, and stay: `gpu_images_per_s` and `torch_cpu_s`, for want of the GPU and the model, `write_cpu_s`,
which `make bench` measures, and those of a rebuild, which `benchmarks.reindex_size` does.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from tests.postgres import running_postgres

from benchmarks.photographs import photograph
from benchmarks.vectors import clustered
from visualindex.ann import ShardIndex, Upserts, open_segment
from visualindex.ann.families.building import Building
from visualindex.ann.segment import ATTRIBUTES
from visualindex.building.segments import build_segment
from visualindex.building.spool import Spool
from visualindex.capacity.coefficients import DEFAULTS
from visualindex.capacity.sizes import FAMILIES, Parameters, held_while_built, lists_of, sampled_rows
from visualindex.catalog import (
    REINDEX,
    Catalog,
    ChunkCommit,
    EmbeddedPostgres,
    Encoded,
    ImageWrite,
    Rows,
    migrate,
)
from visualindex.colours import Colour
from visualindex.encoders import load_encoder
from visualindex.footprint import PATCH_ROW_BYTES
from visualindex.identity import content_digest, image_id_for_key
from visualindex.imaging import DecodeJob, InputSpec
from visualindex.imaging.decoding import decode
from visualindex.imaging.jobs import Bounds
from visualindex.spec import LimitsSpec
from visualindex.spec.models import EncoderSpec, IndexSpec, StorageSpec

DIMENSION = 512
_INDEX, _FINGERPRINT, _PATCHES = "measured", "0123456789abcdef", "fedcba9876543210"
_BATCH = 256
_CHUNK = 1_024
_ROUNDS = 10
"""Iterations of Faiss' k-means over the centroids of inverted lists."""
_PATCHED = 512
_MATERIALS = ("oak", "steel", "linen", "leather", "walnut", "cotton", "glass", "marble")
_WORDS = (
    "low",
    "round",
    "modern",
    "classic",
    "folding",
    "outdoor",
    "narrow",
    "upholstered",
    "stackable",
    "white",
)
COLOURS = (
    Colour(120, 40, 30, 110),
    Colour(240, 240, 235, 80),
    Colour(20, 20, 25, 40),
    Colour(90, 120, 60, 15),
    Colour(10, 10, 200, 10),
)


def product(number: int) -> dict[str, Any]:
    """Metadata as a shop keeps them: two texts of its own, some that repeat, numbers, tags and a time."""
    draw = np.random.default_rng(number)
    words = [str(word) for word in draw.choice(_WORDS, 3, replace=False)]
    return {
        "product_id": f"P{number // 3:09d}",
        "title": f"{words[0]} {words[1]} table {number}",
        "brand": f"brand {int(draw.integers(400))}",
        "material": str(draw.choice(_MATERIALS)),
        "price": round(float(draw.lognormal(4, 1)), 2),
        "tags": words,
        "in_stock": bool(draw.random() < 0.8),
        "rating": round(float(draw.uniform(1, 5)), 1),
        "added": f"2026-{int(draw.integers(1, 13)):02d}-{int(draw.integers(1, 29)):02d}T10:00:00Z",
    }


def category(number: int) -> str:
    """One of two hundred paths."""
    return f"Home > Furniture > Kind {number % 200}"


def rows(count: int, dimension: int, start: int = 0) -> Rows:
    """Rows as the catalog would hand them out."""
    numbers = range(start, start + count)
    ids = b"".join(image_id_for_key(_INDEX, f"sku-{number}").bytes for number in numbers)
    colours = np.array([[[c.red, c.green, c.blue, c.share] for c in COLOURS]], np.uint8)
    return Rows(
        ids=np.frombuffer(ids, np.uint8).reshape(-1, 16),
        vectors=clustered(count, dimension, seed=start).astype(np.float16),
        versions=np.arange(start + 1, start + count + 1),
        categories=[category(number) for number in numbers],
        keys=[f"sku-{number}" for number in numbers],
        metadata=[product(number) for number in numbers],
        colours=np.repeat(colours, count, axis=0),
    )


def writes(made: Rows, patched: int) -> Iterator[ImageWrite]:
    """Those rows as they are put; the first `patched` of them with patches."""
    for at, number in enumerate(made.image_ids):
        yield ImageWrite(
            image_id=number,
            content_digest=content_digest(number.bytes),
            media_type="image/jpeg",
            width=1600,
            height=1200,
            size_bytes=500_000,
            embeddings={(0, _FINGERPRINT): made.vectors[at]},
            key=made.keys[at],
            category=made.categories[at],
            metadata=made.metadata[at],
            colours=COLOURS,
            patches={_PATCHES: os.urandom(PATCH_ROW_BYTES)} if at < patched else {},
        )


@dataclass(frozen=True)
class Stored:
    """What rows took in a database."""

    sizes: dict[str, float]
    """Bytes of each table with its indexes, and of the indexes of `image_embeddings` as `embedding_indexes`."""
    tuple_bytes: float
    """Of a row of `image_embeddings` in its page."""
    wal_bytes: float
    read_rows_per_s: float
    patch_bytes: float
    """Of `image_patches`, per row."""


def stored(count: int, dimension: int) -> Stored:
    """Write rows into a database of our own, and look."""
    with running_postgres() as server:
        asyncio.run(migrate(server.dsn))
        return asyncio.run(_stored(server.dsn, count, dimension))


async def _stored(dsn: str, count: int, dimension: int) -> Stored:
    catalog = await Catalog.open(dsn, max_connections=2)
    try:
        await catalog.ensure_index(_INDEX, _FINGERPRINT, dimension)
        made = rows(count, dimension)
        before = _written(dsn)
        await _put(catalog, list(writes(made, 0)))
        wal = _written(dsn) - before
        sizes = _sizes(dsn)
        read = await _read(catalog)
        patched = min(count, _PATCHED)
        await _put(catalog, list(writes(made.chosen(np.arange(patched)), patched)))
        patches = _sizes(dsn)["image_patches"] / patched
    finally:
        await catalog.close()
    return Stored(sizes, _tuple_bytes(dsn), wal, read, patches)


def database(count: int) -> dict[str, float]:
    """Bytes per row of every table and per write of the logs, and rows read in a second."""
    found, vector = stored(count, DIMENSION), 2 * DIMENSION
    return {
        "image_row_bytes": found.sizes["images"] / count,
        "embedding_row_bytes": found.tuple_bytes - vector,
        "embedding_index_bytes": found.sizes["embedding_indexes"] / count,
        "change_bytes": found.sizes["changes"] / count,
        "patch_row_bytes": found.patch_bytes - PATCH_ROW_BYTES,
        "wal_bytes": found.wal_bytes / count - vector,
        "read_rows_per_s": found.read_rows_per_s,
    }


async def _put(catalog: Catalog, images: Sequence[ImageWrite]) -> None:
    for start in range(0, len(images), _BATCH):
        await catalog.put_images(_INDEX, images[start : start + _BATCH])


async def _read(catalog: Catalog) -> float:
    """Rows a second of a whole load, the best of three: the machine has other work."""
    best = 0.0
    for _ in range(3):
        follower = catalog.follow(_INDEX, _FINGERPRINT, range(1024))
        began, found = time.perf_counter(), 0
        async for part in follower.load():
            found += len(part)
        best = max(best, found / (time.perf_counter() - began))
    return best


def commits(count: int) -> dict[str, float]:
    """How fast one driver commits the chunks of a rebuild."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(folder)
        server.start()
        try:
            asyncio.run(migrate(server.dsn))
            return {"commit_rows_per_s": asyncio.run(_committed(server.dsn, count))}
        finally:
            server.stop()


async def _committed(dsn: str, count: int) -> float:
    catalog = await Catalog.open(dsn, max_connections=2)
    try:
        await catalog.ensure_index(_INDEX, _FINGERPRINT, DIMENSION)
        images = [replace(one, embeddings={}, patches={}) for one in writes(rows(count, DIMENSION), 0)]
        await _put(catalog, images)
        await catalog.request_job(_INDEX, REINDEX, {})
        job = await catalog.claim_job(_INDEX, 3600.0)
        assert job is not None
        vector, colours = bytes(2 * DIMENSION), bytes(20)
        chunks = [
            [
                Encoded(one.image_id, one.content_digest, vector, colours, None)
                for one in images[at : at + _CHUNK]
            ]
            for at in range(0, count, _CHUNK)
        ]
        begun = time.perf_counter()
        for number, chunk in enumerate(chunks):
            await catalog.commit_chunk(
                _INDEX, job.fence, ChunkCommit("0-1", number, _FINGERPRINT, None, chunk, [], {})
            )
        return count / (time.perf_counter() - begun)
    finally:
        await catalog.close()


def _sizes(dsn: str) -> dict[str, float]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        named = {
            table: _one(connection, f"SELECT pg_total_relation_size('{table}')")
            for table in ("images", "image_embeddings", "changes", "image_patches")
        }
        named["embedding_indexes"] = _one(connection, "SELECT pg_indexes_size('image_embeddings')")
        return named


def _tuple_bytes(dsn: str) -> float:
    """Bytes of a row of `image_embeddings` in its page: header, columns and line pointer."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        # The 24-byte header is part of a whole row's size; a line pointer of 4 bytes leads to it.
        return 4 + _one(connection, "SELECT avg(pg_column_size(e.*)) FROM image_embeddings e")


def _written(dsn: str) -> float:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        return _one(connection, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")


def _one(connection: psycopg.Connection[Any], query: str) -> float:
    found = connection.execute(query.encode()).fetchone()
    assert found is not None
    return float(found[0])


def fresh(count: int, dimension: int = DIMENSION) -> dict[str, float]:
    """Bytes of a fresh row in memory, beside vector and links."""
    spec = IndexSpec()
    index = ShardIndex(dimension, flat_below=10 * count, hnsw=spec.hnsw, memory_limit=1 << 40)
    for start in range(0, count, 5_000):
        made = rows(min(5_000, count - start), dimension, start)
        index.apply(Upserts(made.ids, made.vectors, made.attributes(), made.versions))
    held = index.memory_bytes / count - 2 * dimension
    index.close()
    return {"fresh_row_bytes": held}


def one_build(family: str, count: int, folder: Path, dimension: int = DIMENSION) -> dict[str, float]:
    """Build one segment in this process: CPU seconds, largest resident bytes beyond the start, and bytes of the files."""
    spool = Spool(folder, dimension)
    with spool:
        made = rows(count, dimension)
        spool.add(made)
    del made
    spooled = (folder / "attributes.spool").stat().st_size
    directory = folder / "segment"
    directory.mkdir()
    flat_below = count if family == "flat" else 0
    asked = {"hnsw-fp16": "hnsw"}.get(family, family)
    index = IndexSpec.model_validate({"family": asked, "flat_below": flat_below, "memory_per_shard": 1 << 40})
    began = time.process_time()
    with largest() as anonymous:
        build_segment(spool, directory, index)
    cpu = time.process_time() - began
    spool.remove()
    files = {file.name: file.stat().st_size for file in directory.iterdir()}
    return {
        "cpu_s": cpu,
        "learning_s": _learning_s(family, directory, dimension),
        "peak_bytes": max(anonymous) - anonymous[0],
        "attributes": files[ATTRIBUTES],
        "disk": sum(files.values()),
        "memory": open_segment(directory, dimension).memory_bytes,
        "spool": spooled,
    }


def _learning_s(family: str, directory: Path, dimension: int) -> float:
    """CPU seconds of learning ranges, codebooks and centroids from the vectors of a segment."""
    if family == "flat":
        return 0.0
    codes = open_segment(directory, dimension).codes
    began = time.process_time()
    Building(family, codes, Parameters(), 1)
    return time.process_time() - began


@contextmanager
def largest() -> Iterator[list[int]]:
    """Bytes of this process's own memory meanwhile, every few milliseconds: mapped files are not in them."""
    seen, over = [_anonymous()], threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            seen.append(_anonymous())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield seen
    finally:
        over.set()
        looker.join()


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


def built(family: str, count: int) -> dict[str, float]:
    """`one_build` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.coefficients", "--one", family, str(count), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{family}, {count:,} rows: {rounded(found)}", file=sys.stderr, flush=True)
    return found


def builds(sizes: Sequence[int]) -> dict[str, Any]:
    """The cost of building each family, fitted over the sizes, and what a row takes meanwhile."""
    every = {family: [built(family, count) for count in sizes] for family in FAMILIES}
    last = every["flat"][-1]
    return {
        "build": {family: cost(family, sizes, found) for family, found in every.items()},
        "build_row_bytes": max(_rest(family, sizes, found) for family, found in every.items()),
        "attribute_bytes": last["attributes"] / sizes[-1],
        "spool_bytes": last["spool"] / sizes[-1],
    }


def cost(family: str, sizes: Sequence[int], found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The fields of `capacity.coefficients.BuildCost`.

    What a build takes whatever its size, such as the queries that tune it, is fitted and left out: it is nothing to a
    segment of millions. Rows are compared with centroids once when they are added, and `_ROUNDS` times to learn those.
    """
    grown, thousands = [growth(family, count) for count in sizes], [count / 1000 for count in sizes]
    learned = [one["learning_s"] for one in found]
    added = [one["cpu_s"] - one["learning_s"] for one in found]
    if family.startswith("hnsw"):
        each = [size * rows for size, rows in zip(grown, thousands, strict=True)]
        return {
            "fixed": 0.0,
            "growing": _slope(each, added),
            "learning": _slope(thousands, learned),
            "learning_growing": 0.0,
        }
    sampled = [sampled_rows(family, count, Parameters()) / 1000 for count in sizes]
    learning_growing = _slope([size * rows for size, rows in zip(grown, sampled, strict=True)], learned)
    growing = learning_growing / _ROUNDS
    rest = [cpu - growing * size * rows for cpu, size, rows in zip(added, grown, thousands, strict=True)]
    return {
        "fixed": _slope(thousands, rest),
        "growing": growing,
        "learning": 0.0,
        "learning_growing": learning_growing,
    }


def _rest(family: str, sizes: Sequence[int], found: Sequence[dict[str, float]]) -> float:
    """Bytes of memory that a further row takes, beside what is known of the index."""
    known = [held_while_built(family, count, DIMENSION, Parameters()) for count in sizes]
    rest = [one["peak_bytes"] - bytes_ for one, bytes_ in zip(found, known, strict=True)]
    return _slope(sizes, rest)


def growth(family: str, count: int) -> float:
    """What the cost of a row grows with: see `capacity.coefficients.BuildCost`."""
    if family == "flat":
        return 0.0
    return float(np.log2(count)) if family.startswith("hnsw") else float(lists_of(count, Parameters()))


def _slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Least squares beside a constant; through zero where that would fall."""
    x, y = np.array(at, float), np.array(values, float)
    if np.ptp(x) > 0 and (slope := float(np.polyfit(x, y, 1)[0])) > 0:
        return slope
    return max(0.0, float((x @ y) / (x @ x))) if x.any() else 0.0


def pictures(rounds: int) -> dict[str, float]:
    """CPU seconds of decoding and encoding a photograph, and the bytes of its thumbnails."""
    data, bounds = photograph(), Bounds.of(LimitsSpec())
    edges = StorageSpec().thumbnail_sizes
    thumbnails = decode(DecodeJob(data, None, thumbnails=edges), bounds).thumbnails
    wanted = InputSpec(224, 224, "squash", "bicubic")
    decoding = [decode(DecodeJob(data, wanted, colours=True), bounds).cpu_ms / 1000 for _ in range(rounds)]
    cache = Path(tempfile.gettempdir()) / "visualindex-benchmark"
    encoder = load_encoder(EncoderSpec(), cache_dir=cache, threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    encoder.encode(pixels)
    encoding = []
    for _ in range(rounds):
        began = time.process_time()
        encoder.encode(pixels)
        encoding.append(time.process_time() - began)
    power, scale = np.polyfit(np.log(edges), np.log([len(thumbnails[edge]) for edge in edges]), 1)
    return {
        "decode_cpu_s": float(np.median(decoding)),
        "encode_cpu_s": float(np.median(encoding)),
        "thumbnail_scale": float(np.exp(scale)),
        "thumbnail_power": float(power),
    }


def measured(count: int, sizes: Sequence[int]) -> dict[str, Any]:
    """All that can be measured here."""
    metadata = [json.dumps(product(number), separators=(",", ":")) for number in range(1_000)]
    found: dict[str, Any] = {"metadata_bytes": float(np.mean([len(text) for text in metadata]))}
    for step in (
        lambda: database(count),
        lambda: commits(count),
        lambda: fresh(count),
        lambda: pictures(30),
        lambda: builds(sizes),
    ):
        part = step()
        found |= part
        print(part, file=sys.stderr, flush=True)
    found["reference_dimension"] = DIMENSION
    return found


def table(found: dict[str, Any]) -> str:
    """The figures beside the defaults."""
    lines = ["| coefficient | measured | default |", "|---|---|---|"]
    for name, value in found.items():
        default = getattr(DEFAULTS, name)
        if name != "build":
            lines.append(f"| {name} | {value:,.5g} | {default:,.5g} |")
            continue
        for family, parts in value.items():
            for part, one in parts.items():
                lines.append(
                    f"| build, {family}, {part} | {one:.4g} | {getattr(default[family], part):.4g} |"
                )
    return "\n".join(lines)


def rounded(value: Any) -> Any:
    """To four digits, which is more than is known."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def run(count: int, sizes: Sequence[int], out: Path | None) -> None:
    """Measure and print."""
    before = os.getloadavg()
    found = rounded(measured(count, sizes))
    print(table(found))
    print(f"\n{os.cpu_count()} CPUs, load average {before[0]:.1f} before, {os.getloadavg()[0]:.1f} after\n")
    text = json.dumps(found, indent=2)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=20_000, help="rows in the database and in a shard's memory"
    )
    parser.add_argument(
        "--builds",
        type=int,
        nargs="+",
        default=[5_000, 10_000, 20_000],
        help="rows of the segments that are built",
    )
    parser.add_argument("--json", type=Path, help="file to write the coefficients to")
    parser.add_argument("--one", nargs=3, metavar=("FAMILY", "ROWS", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        family, count, folder = asked.one
        print(json.dumps(one_build(family, int(count), Path(folder))))
    else:
        run(asked.rows, asked.builds, asked.json)


if __name__ == "__main__":
    main()
