"""Small generations of several parts, and one opened store per implementation."""

import dataclasses
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from visualindex.generations import FORMAT, Manifest, publish
from visualindex.objectstore import LocalObjectStore, ObjectStore

PART = 1_000
"""Bytes of a part in these tests."""


def described(**changes: object) -> Manifest:
    """A manifest without files."""
    manifest = Manifest(
        format=FORMAT,
        index="shop",
        fingerprint="f1",
        dimension=4,
        metric="cosine",
        watermark="12:34",
        shards=(),
        parameters={"family": "flat"},
        recall={"recall": 1.0, "exact_latency_ms": 1.5},
        release="0.1.0",
        created_at="2026-11-24T12:00:00Z",
        part_bytes=PART,
    )
    return dataclasses.replace(manifest, **changes)  # type: ignore[arg-type]


class Shards:
    """Directories of files, by shard."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, shard: int, name: str, data: bytes) -> bytes:
        folder = self.root / str(shard)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        return data

    @property
    def given(self) -> list[tuple[range, int, Path]]:
        """What `publish` takes: ten buckets and as many images per shard."""
        folders = sorted(self.root.iterdir())
        return [(range(number * 10, number * 10 + 10), 10, folder) for number, folder in enumerate(folders)]

    async def publish(self, store: ObjectStore, **changes: object) -> Manifest:
        return await publish(store, "shop", described(**changes), self.given)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no compression or chance makes equal."""
    return random.Random(seed).randbytes(size)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    """Two shards with files of no part, less than one, one, and several parts."""
    made = Shards(tmp_path / "built")
    for shard in range(2):
        made.write(shard, "vectors.f16", noise(3 * PART + 7, shard))
        made.write(shard, "ids.bin", noise(PART, 10 + shard))
        made.write(shard, "by_id.bin", noise(12, 20 + shard))
        made.write(shard, "empty.bin", b"")
    return made


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalObjectStore]:
    """An empty local store."""
    opened = LocalObjectStore(tmp_path / "store")
    yield opened
    await opened.close()
