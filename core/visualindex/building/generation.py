"""From the catalog to a proposed generation: read, written, published, noted. Nothing is seen of it before its end."""

import asyncio
import datetime as dt
import shutil
import statistics
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson

from visualindex import __version__
from visualindex.building.affording import afford
from visualindex.building.measuring import measured_by, sampled
from visualindex.building.patches import PARAMETER, Kept, StoredPatches, write_patches
from visualindex.building.segments import FLAT, SegmentBuilt, build_segment
from visualindex.building.spool import Spool
from visualindex.capacity.machine import room
from visualindex.catalog import Catalog, Fence, IndexRecord, Position, Rows
from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import FORMAT, Manifest, publish
from visualindex.identity import buckets_of_shard
from visualindex.objectstore import ObjectStore
from visualindex.spec import VisualIndex

_READ_ROWS = 20_000

Say = Callable[[str, int, int], None]
"""Told the phase, and how much of it is done: rows or shards, of how many."""


@dataclass(frozen=True)
class Built:
    """A generation that is published and proposed."""

    generation: str
    images: int
    recall: float
    """Measured recall@10 over all shards, weighed by their images."""
    met: bool
    """Whether every shard reaches the recall that was asked for."""
    contents: str = ""
    """Digest of its files: equal for equal images and vectors, whenever it was built."""
    bytes: int = 0
    """Size of its files."""


async def build_generation(
    catalog: Catalog,
    store: ObjectStore,
    resource: VisualIndex,
    scratch: Path,
    *,
    say: Say = lambda *_: None,
    wanted: Callable[[], bool] = lambda: True,
    threads: int = 1,
    fence: Fence | None = None,
    patches: Kept | None = None,
    of: IndexRecord | None = None,
) -> Built:
    """Build a generation of everything the catalog has of an index now, in the folder `scratch`, which is emptied.

    A build that would not fit a shard's memory, this machine's or its disk is refused before a row is read.
    With `patches` it takes the local features along that the index keeps for reranking. `of` names the encoder whose vectors
    are taken, where that is another than the index has now.

    Raises ProblemError: INDEX_NOT_FOUND, UNAVAILABLE or STORAGE_FULL; `visualindex.ann.graph.Abandoned` soon after
    `wanted` turns false. A build that breaks off leaves the index as it was, and so does one whose `fence` is no longer
    valid (CONFLICT).
    """
    record = await catalog.get_index(resource.name)
    if record is None:
        raise ProblemError(ProblemType.INDEX_NOT_FOUND, f"there is no index {resource.name}: create it first")
    record = of or record
    try:
        await asyncio.to_thread(_emptied, scratch)
        images = await catalog.count_images(resource.name)
        measured = await asyncio.to_thread(measured_by, await sampled(catalog, record, images))
        afford(resource.spec, record.dimension, images, await asyncio.to_thread(room, scratch), measured)
        work = _Work(catalog, resource, record.fingerprint, record.dimension, scratch, say, wanted, threads)
        await work.segments()
        if patches is not None:
            vectors = record.fingerprint, record.dimension
            async with StoredPatches(catalog, store, resource.name, *vectors, patches) as stored:
                await work.patches(stored, patches.features)
        say("publishing", 0, 1)
        manifest = await publish(store, resource.name, work.manifest(), work.directories())
        assert work.watermark is not None  # noqa: S101 - there is at least one shard
        await catalog.propose_generation(
            resource.name,
            manifest.generation,
            record.fingerprint,
            orjson.loads(manifest.to_json()),
            work.watermark,
            fence=fence,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    say("done", 1, 1)
    return Built(
        manifest.generation,
        sum(one.images for one in manifest.shards),
        manifest.recall["recall"],
        manifest.recall["met"],
        manifest.contents,
        sum(file.bytes for one in manifest.shards for file in one.files),
    )


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


class _Work:
    """One build."""

    def __init__(
        self,
        catalog: Catalog,
        resource: VisualIndex,
        fingerprint: str,
        dimension: int,
        scratch: Path,
        say: Say,
        wanted: Callable[[], bool],
        threads: int,
    ) -> None:
        self.watermark: Position | None = None
        self._catalog = catalog
        self._resource = resource
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._scratch = scratch
        self._say = say
        self._wanted = wanted
        self._threads = threads
        self._shards = resource.spec.index.shards
        self._built: list[SegmentBuilt] = []
        self._parameters: dict[str, Any] = {}

    async def segments(self) -> None:
        """Write the segments, one after another."""
        for shard in range(self._shards):
            self._say("building", shard, self._shards)
            self._built.append(await self._segment(shard))

    async def patches(self, stored: StoredPatches, features: str) -> None:
        """Write the patches beside the segments."""
        known = 0
        for buckets, _, directory in self.directories():
            say = partial(self._say, f"gathering patches of {directory.name}")
            known += await write_patches(
                stored, directory, self._dimension, buckets, say=say, wanted=self._wanted
            )
        self._parameters[PARAMETER] = {"features": features, "images": known}

    async def _segment(self, shard: int) -> SegmentBuilt:
        directory = self._directory(shard)
        directory.mkdir()
        spool = Spool(self._scratch, self._dimension)
        with spool:
            await self._read(shard, spool)
        build = partial(
            build_segment,
            spool,
            directory,
            self._resource.spec.index,
            wanted=self._wanted,
            threads=self._threads,
        )
        built = await asyncio.to_thread(build)
        spool.remove()
        return built

    async def _read(self, shard: int, spool: Spool) -> None:
        """Each shard is of its own moment; going on from the first one's, the log brings all of them to the same."""
        follower = self._catalog.follow(
            self._resource.name,
            self._fingerprint,
            buckets_of_shard(shard, self._shards),
            dimension=self._dimension,
        )
        rows = 0
        parts = cast("AsyncGenerator[Rows]", follower.load(_READ_ROWS))
        async with aclosing(parts):
            async for part in parts:
                await asyncio.to_thread(spool.add, part)
                rows += len(part)
                self._say(f"reading shard {shard}", rows, 0)
        if self.watermark is None:
            self.watermark = follower.position

    def _directory(self, shard: int) -> Path:
        return self._scratch / f"shard-{shard}"

    def directories(self) -> list[tuple[range, int, Path]]:
        """Buckets, images and files of each shard."""
        return [
            (buckets_of_shard(shard, self._shards), built.rows, self._directory(shard))
            for shard, built in enumerate(self._built)
        ]

    def manifest(self) -> Manifest:
        """The manifest, without its files."""
        index = self._resource.spec.index
        families = sorted({built.recipe.family for built in self._built})
        return Manifest(
            format=FORMAT,
            index=self._resource.name,
            fingerprint=self._fingerprint,
            dimension=self._dimension,
            metric=index.metric,
            watermark=str(self.watermark),
            shards=(),
            parameters={"families": families, "hnsw": index.hnsw.model_dump(mode="json"), **self._parameters},
            recall=recall_of(self._built),
            release=__version__,
            created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )


def recall_of(built: list[SegmentBuilt]) -> dict[str, Any]:
    """What was measured, of all shards together and of each."""
    shards = [_shard_recall(one) for one in built]
    rows = [one.rows for one in built]
    recall = statistics.fmean([one["recall"] for one in shards], weights=rows) if sum(rows) else 1.0
    return {
        "k": 10,
        "recall": round(recall, 6),
        "target": max(one["target"] for one in shards),
        "met": all(one["met"] for one in shards),
        "shards": shards,
    }


def _shard_recall(built: SegmentBuilt) -> dict[str, Any]:
    if built.recipe.family == FLAT or built.recall is None:
        return {"family": FLAT, "recall": 1.0, "target": built.recipe.target_recall, "met": True, "curve": []}
    return {"family": built.recipe.family, **asdict(built.recall)}
