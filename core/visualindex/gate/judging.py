"""Judging a published generation: its files and the active one's are opened here, asked, and the report is kept."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import numpy as np
from numpy.typing import NDArray

from visualindex.ann import open_segment
from visualindex.ann.graph import Abandoned
from visualindex.api.gate import GateReport
from visualindex.catalog import Catalog, Fence, GenerationRecord
from visualindex.gate.answers import unchanged
from visualindex.gate.asking import Asked, ask
from visualindex.gate.completeness import completeness
from visualindex.gate.labels import ENOUGH, CategoryLabels, FeedbackLabels, Labels
from visualindex.gate.limits import Limits
from visualindex.gate.opened import Opened
from visualindex.gate.probes import Copies, Probes, perturbed, unit
from visualindex.gate.reporting import report
from visualindex.generations import NodeCache, read_manifest
from visualindex.objectstore import ObjectStore
from visualindex.rerank.packed import FILES as PATCH_FILES
from visualindex.spec import VisualIndex

logger = logging.getLogger(__name__)

EncodeCopies = Callable[[Sequence[uuid.UUID]], Awaitable[Mapping[uuid.UUID, NDArray[np.float32]]]]
"""Encodes changed copies of the pictures of images: L2-normalised float32 [m, dimension] for each that can be read."""
Say = Callable[[str, int, int], None]
_AT_ONCE = 8
"""Pictures whose copies are encoded between two looks at whether that is still wanted: seconds on one core."""


async def judge(
    catalog: Catalog,
    store: ObjectStore,
    cache: NodeCache,
    resource: VisualIndex,
    generation: str,
    *,
    encode: EncodeCopies | None = None,
    say: Say = lambda *_: None,
    wanted: Callable[[], bool] = lambda: True,
    fence: Fence | None = None,
) -> GateReport | None:
    """Measure a proposed generation by `spec.reindex.gate` and keep the report with it; a refused one gets its problem.

    None where the gate is off, or where the generation is the active one already. With `encode`, self-retrieval is asked
    with changed pictures instead of changed vectors. `cache` holds the files while they are asked, and shards of this
    node find them there. Raises ProblemError as `NodeCache.fetch`, CONFLICT when `fence` is no longer valid, and
    `visualindex.ann.graph.Abandoned` soon after `wanted` turns false.
    """
    if resource.spec.reindex.gate.mode == "off":
        return None
    record = await catalog.get_generation(resource.name, generation)
    if record.state == "active":
        return None
    active = next((r for r in await catalog.loaded_generations(resource.name) if r.state == "active"), None)
    found = await compare(
        catalog, store, cache, resource, record, active, encode=encode, say=say, wanted=wanted
    )
    problem = refusal(found)
    if problem is not None:
        logger.warning("generation %s of index %s: %s", generation, resource.name, problem)
    await catalog.note_gate(resource.name, generation, found.model_dump(mode="json"), problem, fence=fence)
    return found


def refusal(found: GateReport) -> str | None:
    """Why a generation is refused, for people; None where it is not."""
    if found.verdict != "refused":
        return None
    return f"the quality gate refused it: {'; '.join(one.detail for one in found.failures)}"


async def compare(
    catalog: Catalog,
    store: ObjectStore,
    cache: NodeCache,
    resource: VisualIndex,
    candidate: GenerationRecord,
    active: GenerationRecord | None,
    *,
    encode: EncodeCopies | None = None,
    say: Say = lambda *_: None,
    wanted: Callable[[], bool] = lambda: True,
) -> GateReport:
    """Measure a generation against another one, which need not be active; nothing is kept. Raises as `judge`."""
    begun = time.monotonic()
    limits = Limits.of(resource.spec)
    async with AsyncExitStack() as held:
        say("judging: fetching", 0, 1)
        opened = await _opened(store, cache, resource, candidate, held, wanted)
        before = None if active is None else await _opened(store, cache, resource, active, held, wanted)
        feedback = await _feedback(catalog, resource.name, limits.spec.probes)
        probes = await _probes(catalog, resource.name, opened, before, list(feedback), limits.spec.probes)
        _check(wanted)
        copies, encoded = await _copies(probes, encode, say, wanted)
        _check(wanted)
        say("judging: asking", 0, len(probes.ids))
        asked = await asyncio.to_thread(
            lambda: ask(opened, before, probes, copies, _earlier(opened, before, probes, copies, encoded))
        )
        _check(wanted)
        labels = await _labels(catalog, resource.name, asked, feedback)
        whole = await completeness(catalog, candidate, opened)
        found = await asyncio.to_thread(report, asked, labels, limits, encoded=encoded, whole=whole)
    return found.model_copy(update={"seconds": round(time.monotonic() - begun, 2)})


async def _opened(
    store: ObjectStore,
    cache: NodeCache,
    resource: VisualIndex,
    record: GenerationRecord,
    held: AsyncExitStack,
    wanted: Callable[[], bool],
) -> Opened:
    """A generation with all that shards read of it; its files are held as long as `held` is open."""
    manifest = await read_manifest(store, record.index, record.generation)
    segments = []
    for shard, files in enumerate(manifest.shards):
        names = {entry.name for entry in files.files}.difference(PATCH_FILES)
        fetching = cache.fetch(
            store, record.index, manifest, shard, names=names, progress=lambda *_: _check(wanted)
        )
        lease = await fetching
        held.push_async_callback(asyncio.to_thread, lease.release)
        segments.append(await asyncio.to_thread(open_segment, lease.directory, manifest.dimension))
    return Opened(
        segments,
        generation=record.generation,
        fingerprint=record.fingerprint,
        dimension=manifest.dimension,
        index=resource.spec.index,
        check=partial(_check, wanted),
    )


async def _feedback(catalog: Catalog, index: str, probes: int) -> dict[bytes, frozenset[bytes]]:
    judged = await catalog.judgments(index, probes)
    return {image.bytes: frozenset(one.bytes for one in relevant) for image, relevant in judged.items()}


async def _probes(
    catalog: Catalog,
    index: str,
    opened: Opened,
    before: Opened | None,
    judged: Sequence[bytes],
    count: int,
) -> Probes:
    """Images that people judged, then a sample of what the generation holds and of what it ought to hold still.

    An image that changed since the generation was built is none of it.
    """
    spread = [opened.spread(count)] + ([] if before is None else [before.spread(count)])
    # In turns, so that cutting the list off leaves some of both.
    sample = [one.tobytes() for turn in _turns(spread) for one in turn]
    chosen = list(dict.fromkeys([*judged[: count // 2], *sample]))[:count]
    images = [uuid.UUID(bytes=one) for one in chosen]
    vectors = await catalog.get_vectors(index, images, opened.fingerprint)
    records = await catalog.get_images(index, images)
    ids = np.array([list(one.bytes) for one in images], np.uint8).reshape(-1, 16)
    held = opened.holds(ids)
    kept = [
        place
        for place, image in enumerate(images)
        if image in vectors
        and image in records
        and (not held.there[place] or held.versions[place] == records[image].version)
    ]
    empty = np.zeros((0, opened.dimension), np.float32)
    known = np.concatenate([empty, *(vectors[images[place]][None] for place in kept)])
    return Probes(ids[kept], unit(known))


def _turns(spread: Sequence[NDArray[np.uint8]]) -> list[list[NDArray[np.uint8]]]:
    return [
        [ids[place] for ids in spread if place < len(ids)]
        for place in range(max(map(len, spread), default=0))
    ]


async def _copies(
    probes: Probes, encode: EncodeCopies | None, say: Say, wanted: Callable[[], bool]
) -> tuple[Copies, bool]:
    """Changed copies of the probes, and whether they are of pictures."""
    if encode is None:
        return perturbed(probes.ids, probes.vectors), False
    images = [uuid.UUID(bytes=one.tobytes()) for one in probes.ids]
    encoded: dict[uuid.UUID, NDArray[np.float32]] = {}
    for start in range(0, len(images), _AT_ONCE):
        _check(wanted)
        say("judging: encoding changed copies", start, len(images))
        encoded.update(await encode(images[start : start + _AT_ONCE]))
    vectors = [encoded[image] for image in images if image in encoded]
    of = [np.full(len(encoded[image]), at) for at, image in enumerate(images) if image in encoded]
    none = np.zeros((0, probes.vectors.shape[1]), np.float32)
    return Copies(np.concatenate([none, *vectors]), np.concatenate([np.zeros(0, np.int64), *of])), True


def _earlier(
    opened: Opened, before: Opened | None, probes: Probes, copies: Copies, encoded: bool
) -> Copies | None:
    """The copies that the active generation is asked for: of pictures the same ones, of vectors those that it holds.

    None where there is no such generation, or where its encoder would have to encode them.
    """
    if before is None:
        return None
    both = unchanged(probes.ids, opened, before)
    if encoded and opened.fingerprint != before.fingerprint:
        return None
    if encoded:
        kept = both[copies.of]
        return Copies(copies.vectors[kept], copies.of[kept])
    compared = np.flatnonzero(both)
    mine = perturbed(probes.ids[compared], before.vectors_of(probes.ids[compared]))
    return Copies(mine.vectors, compared[mine.of])


async def _labels(
    catalog: Catalog, index: str, asked: Asked, feedback: Mapping[bytes, frozenset[bytes]]
) -> Labels | None:
    """What people judged, or else the categories; None where too few of the probes have either."""
    probes = [one.tobytes() for one in asked.probes.ids[asked.compared]]
    if sum(one in feedback for one in probes) >= ENOUGH:
        return FeedbackLabels(feedback)
    images = [uuid.UUID(bytes=one) for one in asked.hits().union(probes)]
    records = await catalog.get_images(index, images)
    categories = {image.bytes: one.category for image, one in records.items() if one.category is not None}
    labelled = [categories[one] for one in probes if one in categories]
    return CategoryLabels(categories) if len(labelled) >= ENOUGH and len(set(labelled)) > 1 else None


def _check(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise Abandoned
