"""The patches in the active generation of an index: fetched to this node and opened, and followed as generations change."""

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from visualindex.building import features_of, fetch_patches
from visualindex.catalog import Catalog
from visualindex.errors import ProblemError
from visualindex.generations import Lease, NodeCache, read_manifest
from visualindex.objectstore import ObjectStore
from visualindex.rerank.segment_patches import SegmentPatches
from visualindex_serving.ending import ended
from visualindex_serving.patch_folding import forget_folded

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_FORGET_EVERY_S = 10.0
_SETTLED_S = 120.0
"""How long a generation has been open here before the side table is rid of what it holds: other rerankers and gateways
follow an activation, each at its own pace."""


@dataclass(frozen=True)
class _Opened:
    """The patches of a generation; `features` None for one that has none."""

    generation: str | None = None
    features: str | None = None
    segments: tuple[SegmentPatches, ...] = ()
    leases: tuple[Lease, ...] = ()


class GenerationPatches:
    """Follows activations in the background. While files are fetched, what was open before is used on.

    It also rids the side table of what the generation holds: it has the files open that say what that is.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: ObjectStore,
        cache: NodeCache,
        index: str,
        *,
        settled_s: float = _SETTLED_S,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._cache = cache
        self._index = index
        self._settled_s = settled_s
        self._opened = _Opened()
        self._opened_at = time.monotonic()
        self._forgot_at = 0.0
        self._after: uuid.UUID | None = None
        self._said: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._run(), name="generation-patches")

    async def close(self) -> None:
        """Stop, and let go of the files."""
        if self._task is not None:
            await ended([self._task])
        self._swap(_Opened())

    def segments(self, features: str) -> Sequence[SegmentPatches]:
        """The segments whose patches have that fingerprint."""
        return self._opened.segments if self._opened.features == features else ()

    async def refresh(self) -> None:
        """Open the patches of the generation that is active now. Raises ProblemError naming what cannot be had."""
        active = (await self._catalog.active_generations([self._index])).get(self._index)
        if active != self._opened.generation:
            self._swap(_Opened() if active is None else await self._open(active))

    async def forget(self) -> None:
        """Take the next step of ridding the side table of what the active generation holds."""
        opened = self._opened
        if opened.generation is not None and opened.features is not None:
            self._after = await forget_folded(
                self._catalog, self._index, opened.generation, opened.features, opened.segments, self._after
            )

    async def _open(self, generation: str) -> _Opened:
        manifest = await read_manifest(self._store, self._index, generation)
        segments: list[SegmentPatches] = []
        leases: list[Lease] = []
        try:
            for shard in range(len(manifest.shards)):
                lease = await fetch_patches(self._store, self._cache, manifest, shard)
                if lease is not None:
                    leases.append(lease)
                    opened = await asyncio.to_thread(SegmentPatches.open, lease.directory)
                    segments += [opened] if opened is not None else []
        except BaseException:
            for lease in leases:
                lease.release()
            raise
        return _Opened(generation, features_of(manifest.parameters), tuple(segments), tuple(leases))

    def _swap(self, opened: _Opened) -> None:
        before, self._opened = self._opened, opened
        self._opened_at, self._after = time.monotonic(), None
        for lease in before.leases:  # mappings in use stay valid
            lease.release()

    async def _run(self) -> None:
        while True:
            try:
                await self.refresh()
                if self._due():
                    self._forgot_at = time.monotonic()
                    await self.forget()
                self._said = None
            except ProblemError as problem:
                self._say(problem.detail)
            except Exception as error:
                self._say(f"{type(error).__name__}: {error}")
            await asyncio.sleep(_LOOK_S)

    def _due(self) -> bool:
        now = time.monotonic()
        return now - self._opened_at > self._settled_s and now - self._forgot_at > _FORGET_EVERY_S

    def _say(self, what: str) -> None:
        if what != self._said:
            logger.warning(
                "the patches of index %s's generation cannot be followed for now: %s", self._index, what
            )
        self._said = what
