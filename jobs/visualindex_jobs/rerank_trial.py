"""The job that measures on an index's own pictures whether reranking helps, and keeps weights and verdict with the index.

Its queries are changed copies of pictures that the index holds, so their answers are known. The first stage is searched
exactly: what is judged is the reordering, not the approximate index.
"""

import asyncio
import os
import uuid
import zlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from visualindex import credentials
from visualindex.ann.changes import normalised
from visualindex.ann.codes import encode
from visualindex.building import Kept, StoredPatches
from visualindex.catalog import Catalog, JobRecord, Rows
from visualindex.encoders import Encoder
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import BUCKETS
from visualindex.imaging import DecodePool
from visualindex.objectstore import ObjectStore, original_key
from visualindex.rerank.fusion import Judged
from visualindex.rerank.maxsim import maxsim
from visualindex.rerank.patches import Packed, PatchProjection, packed_row
from visualindex.rerank.profile import Profile
from visualindex.rerank.trial import run_trial
from visualindex.spec import VisualIndex
from visualindex_jobs.changed_copies import CHANGES, changed_copies
from visualindex_jobs.encoder_tools import EncoderTools
from visualindex_jobs.ending import ending
from visualindex_jobs.lease import Lease
from visualindex_jobs.nearest import Nearest
from visualindex_jobs.opening import opened

PICTURES = 200
"""Pictures that copies are made of: half of them fit the weights, the other half judges."""
_READ_ROWS = 5_000
_SAME = 1e-5  # of cosines: two images of one picture answer alike
_WHOLE = range(BUCKETS)


def main(document: dict[str, Any], job: JobRecord, features: str | None) -> None:
    """Carry a claimed job out in this process, at the lowest priority: searches come first."""
    os.nice(10)
    asyncio.run(_main(VisualIndex.model_validate(document), job, features))


async def _main(resource: VisualIndex, job: JobRecord, features: str | None) -> None:
    async with opened(resource, "rerank-trial") as found:
        what = found.catalog, found.store, resource, job, found.cache_dir
        await carry_out(*what, patches=found.kept(features), access=found.access)


async def carry_out(
    catalog: Catalog,
    store: ObjectStore,
    resource: VisualIndex,
    job: JobRecord,
    cache_dir: Path,
    *,
    patches: Kept | None,
    access: credentials.Credentials | None = None,
) -> None:
    """Measure, keep the profile, and note the end of the job, whatever it is."""
    lease = Lease(catalog, job.fence)
    async with ending(catalog, job, lease):
        if patches is None:
            detail = f"index {resource.name} keeps no patches (spec.rerank.mode)"
            raise ProblemError(ProblemType.CONFLICT, detail)
        opening = partial(EncoderTools.open, resource, cache_dir, access, threads=1)
        tools = await asyncio.to_thread(opening)
        pool = DecodePool(1, resource.spec.limits)
        try:
            await pool.start()
            profile = await _measured(catalog, store, resource, patches, tools, pool, lease)
        finally:
            await pool.close()
            tools.encoder.close()
        await catalog.set_rerank_profile(resource.name, profile.to_json())
        await lease.stop()
        await catalog.end_job(job.fence, result=profile.to_json())


@dataclass(frozen=True)
class _Copies:
    """Changed copies: `vectors` float32[q, d], packed patches, and the image that each was made of."""

    vectors: NDArray[np.float32]
    patches: Sequence[Packed]
    of: Sequence[uuid.UUID]


async def _measured(
    catalog: Catalog,
    store: ObjectStore,
    resource: VisualIndex,
    kept: Kept,
    tools: EncoderTools,
    pool: DecodePool,
    lease: Lease,
) -> Profile:
    name, encoder, packing = resource.name, tools.encoder, tools.packing
    assert packing is not None  # noqa: S101 - patches are kept
    if packing.fingerprint != kept.features:
        detail = f"index {name} has changed its encoder or rerank.projection: measure again in a minute"
        raise ProblemError(ProblemType.CONFLICT, detail)
    rows = partial(_rows, catalog, resource, encoder.fingerprint, lease)
    sample, images = await _sample(rows)
    copies = await _copies(catalog, store, name, sample, encoder, packing, pool, lease)
    nearest = Nearest(copies.vectors, resource.spec.rerank.candidates)
    lease.say("searching", 0, images)
    async with aclosing(rows()) as parts:
        async for part in parts:
            await asyncio.to_thread(nearest.see, part)
    own = await catalog.get_vectors(name, sample, encoder.fingerprint)
    async with StoredPatches(catalog, store, name, encoder.fingerprint, encoder.dimension, kept) as stored:
        judged, pictures = await _judged(stored, copies, nearest, own, lease)
    trial = await asyncio.to_thread(run_trial, ["maxsim"], judged, pictures)
    return Profile.of(kept.features, trial.fusion, trial.decision, images)


async def _rows(
    catalog: Catalog, resource: VisualIndex, fingerprint: str, lease: Lease
) -> AsyncGenerator[Rows]:
    follower = catalog.follow(resource.name, fingerprint, _WHOLE)
    async with aclosing(cast("AsyncGenerator[Rows]", follower.load(_READ_ROWS))) as parts:
        async for part in parts:
            lease.check()
            yield part


async def _sample(rows: Any) -> tuple[list[uuid.UUID], int]:
    """The images whose hashes are least: any, but the same each time; and how many images there are."""
    least: list[tuple[int, uuid.UUID]] = []
    count = 0
    async with aclosing(rows()) as parts:
        async for part in parts:
            count += len(part)
            hashed = [(zlib.crc32(image_id.bytes), image_id) for image_id in part.image_ids]
            least = sorted([*least, *hashed])[:PICTURES]
    return [image_id for _, image_id in least], count


async def _copies(
    catalog: Catalog,
    store: ObjectStore,
    name: str,
    sample: Sequence[uuid.UUID],
    encoder: Encoder,
    packing: PatchProjection,
    pool: DecodePool,
    lease: Lease,
) -> _Copies:
    """Copies of those pictures that can be read; the same ones each time."""
    records = await catalog.get_images(name, sample)
    vectors: list[NDArray[np.float32]] = []
    patches: list[Packed] = []
    of: list[uuid.UUID] = []
    for number, image_id in enumerate(sample):
        lease.check()
        lease.say("encoding changed copies", number, len(sample))
        if image_id not in records:
            continue
        try:
            data = await store.get(original_key(name, records[image_id].content_digest))
            changed = await changed_copies(data, number, encoder.input, pool)
        except ProblemError as problem:
            if problem.type is ProblemType.UNAVAILABLE:
                raise
            continue  # deleted meanwhile, or of a kind that this release does not decode
        encoded = await asyncio.to_thread(encoder.encode, changed, patches=True)
        assert encoded.patches is not None  # noqa: S101 - they were asked for
        packed = packing.pack(encoded.patches)
        vectors.append(encoded.vectors)
        patches += [packed_row(packed.row_bytes(row)) for row in range(len(changed))]
        of += [image_id] * len(changed)
    empty = np.zeros((0, encoder.dimension), np.float32)
    return _Copies(np.concatenate([empty, *vectors]), patches, of)


async def _judged(
    stored: StoredPatches,
    copies: _Copies,
    nearest: Nearest,
    own: Mapping[uuid.UUID, NDArray[np.float32]],
    lease: Lease,
) -> tuple[list[Judged], list[int]]:
    """The copies whose picture has patches, with the candidates of each; and the number of the picture."""
    judged: list[Judged] = []
    pictures: list[int] = []
    each = len(CHANGES)
    for start in range(0, len(copies.of), each):
        lease.check()
        lease.say("comparing", start, len(copies.of))
        image_id = copies.of[start]
        some = slice(start, start + each)
        found = await _patches(stored, nearest, some, image_id, own.get(image_id))
        if image_id not in found:
            continue
        for place in range(start, start + each):
            judged.append(await asyncio.to_thread(_one, copies, nearest, place, found, own[image_id]))
            pictures.append(start // each)
    return judged, pictures


async def _patches(
    stored: StoredPatches,
    nearest: Nearest,
    some: slice,
    image_id: uuid.UUID,
    own: NDArray[np.float32] | None,
) -> Mapping[uuid.UUID, bytes]:
    """The patches of the candidates of some queries, and of the picture that these were made of."""
    dimension = nearest.codes.shape[2]
    vectors = nearest.codes[some].reshape(-1, dimension)
    ids = [uuid.UUID(bytes=one.tobytes()) for one in nearest.ids[some].reshape(-1, 16)]
    vector_of = dict(zip(ids, vectors, strict=True))
    if own is None:
        return {}
    vector_of[image_id] = own.astype(np.float16)
    codes = encode(normalised(np.stack(list(vector_of.values())), dimension, "vectors"))
    return await stored.of(list(vector_of), [code.tobytes() for code in codes], _WHOLE)


def _one(
    copies: _Copies,
    nearest: Nearest,
    place: int,
    found: Mapping[uuid.UUID, bytes],
    own: NDArray[np.float32],
) -> Judged:
    scores = nearest.scores[place]
    signal = np.full(len(scores), np.nan, np.float32)
    rows = [found.get(uuid.UUID(bytes=one.tobytes())) for one in nearest.ids[place]]
    known = [row for row in rows if row is not None]
    if known:
        packed = [packed_row(row) for row in known]
        candidates = Packed(
            np.concatenate([one.codes for one in packed]), np.concatenate([one.scales for one in packed])
        )
        signal[[row is not None for row in rows]] = maxsim(copies.patches[place], candidates)
    unit = own / max(float(np.linalg.norm(own)), float(np.finfo(np.float32).tiny))
    relevant = np.abs(scores - copies.vectors[place] @ unit) < _SAME
    return Judged(np.stack([scores, signal], axis=1), relevant)
