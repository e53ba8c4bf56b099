"""What the area's tests build generations of: images that have vectors, and no pictures."""

from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np
from tests.reindexing.collection import NAME, Collection, number_id, resource_of

from visualindex.building import Builders, Built, build_generation
from visualindex.catalog import Catalog, Fence, ImageWrite
from visualindex.generations import Manifest, read_manifest, retire
from visualindex.identity import content_digest
from visualindex.objectstore import ObjectStore, part_key, part_prefix, pending_prefix
from visualindex.spec import VisualIndex


def resource(builders: int = 0, shards: int = 4, **index: Any) -> VisualIndex:
    """An index of graphs, in several shards."""
    given = {"shards": shards, "flatBelow": 50, "family": "hnsw", **index}
    return resource_of(index=given, reindex={"builders": builders})


class Filled(Collection):
    """An index that can be built at once."""

    async def __aenter__(self) -> Self:
        self.catalog = await Catalog.open(self.dsn, max_connections=4, timeout_s=120)
        await self.catalog.ensure_index(NAME, self.fingerprint, 32)
        return self

    async def fill(self, numbers: Iterable[int]) -> None:
        """Images of these numbers: equal numbers give equal images."""
        writes = [self._image(number) for number in numbers]
        for start in range(0, len(writes), 500):
            await self.catalog.put_images(NAME, writes[start : start + 500])

    def _image(self, number: int) -> ImageWrite:
        vector = np.random.default_rng(number).normal(size=32).astype(np.float32)
        return ImageWrite(
            image_id=number_id(number),
            content_digest=content_digest(str(number).encode()),
            media_type="image/jpeg",
            width=1,
            height=1,
            size_bytes=1,
            embeddings={(0, self.fingerprint): vector},
            metadata={"number": number},
        )

    async def build(
        self,
        of: VisualIndex | None = None,
        *,
        store: ObjectStore | None = None,
        threads: int = 1,
        say: Callable[[str, int, int], None] = lambda *_: None,
        builders: Builders | None = None,
        fence: Fence | None = None,
    ) -> Built:
        """A generation of all images."""
        return await build_generation(
            self.catalog,
            store or self.store,
            of or resource(),
            self.root / "scratch",
            threads=threads,
            say=say,
            builders=builders,
            fence=fence,
        )

    async def sweep(self, gone: str, store: ObjectStore | None = None) -> None:
        """Retire a generation as a gateway does, and with it all that no generation and no build needs."""
        async with self.catalog.publishing_turn(NAME):
            await retire(store or self.store, NAME, gone, [])

    async def manifest(self, generation: str) -> Manifest:
        return await read_manifest(self.store, NAME, generation)

    async def parts(self) -> set[str]:
        """Keys of the parts that the store has."""
        return {key async for key in self.store.list(part_prefix(NAME))}

    async def pending(self) -> set[str]:
        """Keys of what holds shards that belong to no generation yet."""
        return {key async for key in self.store.list(pending_prefix(NAME))}


def named_in(manifest: Manifest) -> set[str]:
    """Keys of the parts of a generation."""
    parts = (part for shard in manifest.shards for file in shard.files for part in file.parts)
    return {part_key(NAME, bytes.fromhex(part)) for part in parts}
