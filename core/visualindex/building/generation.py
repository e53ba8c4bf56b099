"""From the catalog to a proposed generation: shards are built and uploaded, then the manifest says what they are.

Nothing is seen of it before its end.
"""

import dataclasses
import datetime as dt
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from visualindex import __version__
from visualindex.building.builders import Builders, Here
from visualindex.building.holding import Holding
from visualindex.building.measuring import measured_by, sampled
from visualindex.building.patches import PARAMETER, Kept
from visualindex.building.shard import Say, ShardBuilt, Task
from visualindex.catalog import Catalog, Fence, IndexRecord, Position
from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import FORMAT, Manifest, complete
from visualindex.generations.threads import in_thread
from visualindex.objectstore import ObjectStore
from visualindex.spec import VisualIndex


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
    builders: Builders | None = None,
) -> Built:
    """Build a generation of everything the catalog has of an index now, in the folder `scratch`, which is emptied.

    A build that would not fit a shard's memory, this machine's or its disk is refused before a row is read. Several shards
    are built at once where there is room for it: in this process with `threads` in all, or where `builders` says.
    With `patches` it takes the local features along that the index keeps for reranking. `of` names the encoder whose vectors
    are taken, where that is another than the index has now.

    Raises ProblemError: INDEX_NOT_FOUND, UNAVAILABLE or STORAGE_FULL; `visualindex.ann.graph.Abandoned` soon after
    `wanted` turns false. A build that breaks off leaves the index as it was, and so does one whose `fence` is no longer
    valid (CONFLICT).
    """
    record = await catalog.get_index(resource.name)
    if record is None:
        raise ProblemError(ProblemType.INDEX_NOT_FOUND, f"there is no index {resource.name}: create it first")
    builders = builders or Here(
        catalog, store, scratch, threads=threads, patches=patches, say=say, wanted=wanted
    )
    features = None if patches is None else patches.features
    build = _Build(catalog, store, resource, of or record, fence, features, builders, say)
    try:
        await in_thread(_emptied, scratch)
        manifest = await build.run()
    finally:
        await in_thread(partial(shutil.rmtree, scratch, ignore_errors=True))
    say("built", 1, 1)
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


class _Build:
    """One build."""

    def __init__(
        self,
        catalog: Catalog,
        store: ObjectStore,
        resource: VisualIndex,
        of: IndexRecord,
        fence: Fence | None,
        features: str | None,
        builders: Builders,
        say: Say,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._resource = resource
        self._of = of
        self._fence = fence
        self._features = features
        self._builders = builders
        self._say = say
        self._built: list[ShardBuilt] = []

    async def run(self) -> Manifest:
        """Build the shards, then publish what is left to be said of them, and propose it."""
        spec, name = self._resource.spec, self._resource.name
        images = await self._catalog.count_images(name)
        measured = await in_thread(measured_by, await sampled(self._catalog, self._of, images))
        at_once, threads = await self._builders.afford(spec, self._of.dimension, images, measured)
        async with Holding(self._catalog, self._store, name) as holding:
            # Read before any shard is: the log after it brings each of them up to date.
            manifest = self._manifest(holding.position)
            task = Task(self._resource, manifest, self._fence, threads, measured)
            self._say("building", 0, task.shards)
            await self._builders.build(task, at_once, partial(self._done, holding, task))
            self._say("publishing", 0, 1)
            return await self._publish(self._completed(manifest), holding.position)

    def _done(self, holding: Holding, task: Task, built: ShardBuilt) -> None:
        holding.uploaded(task.manifest, built.files)
        self._built.append(built)
        self._say("building", len(self._built), task.shards)

    async def _publish(self, manifest: Manifest, watermark: Position) -> Manifest:
        async with self._catalog.publishing_turn(manifest.index, self._fence):
            pass  # a job that was taken over meanwhile ends here, and leaves no manifest behind
        # Not in that turn: a process that hangs here would keep every other from publishing.
        published = await complete(self._store, manifest)
        await self._catalog.propose_generation(
            published.index,
            published.generation,
            published.fingerprint,
            orjson.loads(published.to_json()),
            watermark,
            fence=self._fence,
        )
        return published

    def _manifest(self, watermark: Position) -> Manifest:
        """The manifest, without its shards and what they tell."""
        return Manifest(
            format=FORMAT,
            index=self._resource.name,
            fingerprint=self._of.fingerprint,
            dimension=self._of.dimension,
            metric=self._resource.spec.index.metric,
            watermark=str(watermark),
            shards=(),
            parameters={},
            recall={},
            release=__version__,
            created_at=_now(),
        )

    def _completed(self, manifest: Manifest) -> Manifest:
        built = sorted(self._built, key=lambda one: one.shard)
        hnsw = self._resource.spec.index.hnsw.model_dump(mode="json")
        parameters: dict[str, Any] = {"families": sorted({one.family for one in built}), "hnsw": hnsw}
        if self._features is not None:
            known = sum(one.patches for one in built)
            parameters[PARAMETER] = {"features": self._features, "images": known}
        shards = tuple(one.files for one in built)
        return dataclasses.replace(
            manifest, shards=shards, parameters=parameters, recall=recall_of(built), created_at=_now()
        )


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def recall_of(built: Sequence[ShardBuilt]) -> dict[str, Any]:
    """What was measured, of all shards together and of each."""
    shards = [one.recall for one in built]
    rows = [one.files.images for one in built]
    recall = statistics.fmean([one["recall"] for one in shards], weights=rows) if sum(rows) else 1.0
    return {
        "k": 10,
        "recall": round(recall, 6),
        "target": max(one["target"] for one in shards),
        "met": all(one["met"] for one in shards),
        "shards": shards,
    }
