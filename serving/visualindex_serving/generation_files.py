"""The files of generations on this node: fetched into the cache, opened as segments, and held as long as they are used.

Patches are left to rerankers: they are much larger than all that a shard reads.
"""

import asyncio
from collections.abc import Sequence

from visualindex.ann import Segment, open_segment
from visualindex.catalog import GenerationRecord
from visualindex.generations import Lease, NodeCache, read_manifest
from visualindex.objectstore import ObjectStore
from visualindex.rerank.packed import FILES as PATCH_FILES
from visualindex_serving.progress_log import Progress


class GenerationFiles:
    """Opens the segments of generations of one index."""

    def __init__(self, store: ObjectStore, cache: NodeCache) -> None:
        self._store = store
        self._cache = cache
        self._leases: dict[str, list[Lease]] = {}

    async def open(self, record: GenerationRecord, buckets: range) -> Sequence[Segment]:
        """Every segment with rows of `buckets`, mapped. Raises ProblemError naming the file that cannot be had."""
        manifest = await read_manifest(self._store, record.index, record.generation)
        segments = []
        for shard, files in enumerate(manifest.shards):
            if files.buckets.stop <= buckets.start or buckets.stop <= files.buckets.start:
                continue
            said = Progress(f"generation {record.generation}, shard {shard}")
            names = {entry.name for entry in files.files}.difference(PATCH_FILES)
            lease = await self._cache.fetch(
                self._store, record.index, manifest, shard, names=names, progress=said
            )
            self._leases.setdefault(record.generation, []).append(lease)
            segments.append(await asyncio.to_thread(open_segment, lease.directory, manifest.dimension))
        return segments

    def close(self, generation: str) -> None:
        """Let the cache throw the files of a generation away."""
        for lease in self._leases.pop(generation, ()):
            lease.release()
