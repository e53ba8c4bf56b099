"""The files of generations on this node: fetched into the cache, opened as segments, and held as long as they are used.

Patches are left to rerankers: they are much larger than all that a shard reads.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence

from visualindex.ann import Segment, open_segment
from visualindex.catalog import GenerationRecord
from visualindex.generations import Lease, Manifest, NodeCache, read_manifest
from visualindex.objectstore import ObjectStore
from visualindex.rerank.packed import FILES as PATCH_FILES
from visualindex_serving.progress_log import Progress


class GenerationFiles:
    """Opens the segments of generations of one index; with `gpu`, to be searched on the GPU of this process."""

    def __init__(self, store: ObjectStore, cache: NodeCache, *, gpu: bool = False) -> None:
        self._store = store
        self._cache = cache
        self._gpu = gpu
        self._leases: dict[str, list[Lease]] = {}

    async def open(self, record: GenerationRecord, buckets: range) -> Sequence[Segment]:
        """Every segment with rows of `buckets`, mapped. Raises ProblemError naming the file that cannot be had.

        What an earlier call held for the generation is let go of: mappings of it stay valid.
        """
        manifest = await read_manifest(self._store, record.index, record.generation)
        leases: list[Lease] = []
        try:
            segments = [segment async for segment in self._opened(manifest, buckets, leases)]
        except BaseException:
            _release(leases)
            raise
        self.close(record.generation)
        self._leases[record.generation] = leases
        return segments

    async def _opened(
        self, manifest: Manifest, buckets: range, leases: list[Lease]
    ) -> AsyncGenerator[Segment]:
        """The segments one after another; their leases are added to `leases`."""
        for shard, files in enumerate(manifest.shards):
            if files.buckets.stop <= buckets.start or buckets.stop <= files.buckets.start:
                continue
            said = Progress(f"generation {manifest.generation}, shard {shard}")
            names = {entry.name for entry in files.files}.difference(PATCH_FILES)
            leases.append(
                await self._cache.fetch(
                    self._store, manifest.index, manifest, shard, names=names, progress=said
                )
            )
            yield await asyncio.to_thread(
                open_segment, leases[-1].directory, manifest.dimension, gpu=self._gpu
            )

    def close(self, generation: str) -> None:
        """Let the cache throw the files of a generation away."""
        _release(self._leases.pop(generation, ()))


def _release(leases: Iterable[Lease]) -> None:
    for lease in leases:
        lease.release()
