"""Can the generations of an index still be fetched: is each manifest there, and each part it names, with the right bytes."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from visualindex.building import find_abandoned, retire_abandoned
from visualindex.catalog import BUILD, GenerationRecord
from visualindex.checking import Finding, FindingKind
from visualindex.checking.originals import drawn
from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import Manifest, read_manifest
from visualindex.generations.manifest import canonical
from visualindex.objectstore import manifest_key, part_key, part_prefix
from visualindex_jobs.checked import Breather, Checked

_SERVED = ("active", "preparing")
_ENDED = ("retired", "gone")


async def check_generations(checked: Checked) -> None:
    """Compare the generations that the database has with what the object store has of them, and read a share of that."""
    records = await checked.catalog.list_generations(checked.index)
    if not records:
        return
    checked.go_on("comparing generations", 0, len(records))
    await _abandoned(checked)
    parts = _Parts(checked, {key async for key in checked.store.list(part_prefix(checked.index))})
    for number, record in enumerate(records):
        checked.go_on("comparing generations", number, len(records))
        manifest = await _manifest(checked, record)
        if manifest is None:
            continue
        keys = _part_keys(checked.index, manifest)
        faults = {
            FindingKind.MISSING_PART: await parts.missing(keys),
            FindingKind.DAMAGED_PART: await parts.damaged(keys),
        }
        if any(faults.values()) and not await _has_ended(checked, record):
            await _without_parts(checked, record, faults)


async def _abandoned(checked: Checked) -> None:
    """Those that no row names: gateways retire them by themselves, one after another."""
    look = retire_abandoned if checked.repair else find_abandoned
    if names := await look(checked.catalog, checked.store, checked.index):
        mended, action = (len(names), "deleted") if checked.repair else (0, "check again with repair")
        finding = Finding(
            FindingKind.ABANDONED_GENERATION, "object store", len(names), mended, tuple(names), action
        )
        checked.report.findings.append(finding)


class _Parts:
    """The parts that the object store has of an index."""

    def __init__(self, checked: Checked, there: set[str]) -> None:
        self._checked = checked
        self._there = there
        self._right: dict[str, bool | None] = {}
        """Those that were read, for one generation or another."""

    async def missing(self, keys: Mapping[bytes, str]) -> list[str]:
        """Those that are not there, also when they are asked for once more."""
        lacking = [key for key in keys.values() if key not in self._there]
        return [key for key in lacking if await self._checked.store.stat(key) is None]

    async def damaged(self, keys: Mapping[bytes, str]) -> list[str]:
        """Those whose bytes are not what they are named after, of a share."""
        breather = Breather()
        share = [keys[one] for one in drawn(keys.keys(), self._checked.read_share, self._checked.job.job_id)]
        for key in share:
            if key not in self._right:
                self._checked.go_on("reading generations", len(self._right), len(self._there))
                self._right[key] = await self._checked.is_right(key, partial(_is_named, key))
                await breather.rest()
        return [key for key in share if self._right[key] is False]


def _is_named(key: str, data: bytes) -> bool:
    return key.endswith(hashlib.sha256(data).hexdigest())


async def _has_ended(checked: Checked, record: GenerationRecord) -> bool:
    """Whether it was retired meanwhile: then its objects may go."""
    return (await checked.catalog.get_generation(checked.index, record.generation)).state in _ENDED


async def _manifest(checked: Checked, record: GenerationRecord) -> Manifest | None:
    """The one in the object store, or the database's where that is missing or damaged; None where neither can be read."""
    try:
        return await read_manifest(checked.store, checked.index, record.generation)
    except ProblemError as problem:
        if problem.type is ProblemType.UNAVAILABLE:
            raise
    if await _has_ended(checked, record):
        return None
    known = _known(record)
    key, mended, action = manifest_key(checked.index, record.generation), 0, "check again with repair"
    if known is None:
        action = "build and activate another generation: the database's copy cannot be read either"
    elif checked.repair:
        await checked.store.put(key, known.to_json(), content_type="application/json")
        mended, action = 1, "written again from the database"
    place = f"generation {record.generation}, {record.state}"
    finding = Finding(FindingKind.MISSING_MANIFEST, place, 1, mended, (key,), action)
    checked.report.findings.append(finding)
    return known


def _known(record: GenerationRecord) -> Manifest | None:
    try:
        return Manifest.from_json(canonical(dict(record.manifest)))
    except ProblemError:
        return None


def _part_keys(index: str, manifest: Manifest) -> dict[bytes, str]:
    """Keys of its parts by their digests."""
    parts = {part for shard in manifest.shards for file in shard.files for part in file.parts}
    return {(digest := bytes.fromhex(part)): part_key(index, digest) for part in sorted(parts)}


async def _without_parts(
    checked: Checked, record: GenerationRecord, faults: Mapping[FindingKind, Sequence[str]]
) -> None:
    """Replicas that hold it go on with it, others serve the database's rows; what is served gets a successor."""
    place = f"generation {record.generation}, {record.state}"
    discarded, action = False, "check again with repair"
    if checked.repair and record.state in _SERVED:
        parameters: Mapping[str, Any] = {"activate": True, "reason": "missing or damaged parts"}
        job, _ = await checked.catalog.request_job(checked.index, BUILD, parameters)
        action = f"job {job.job_id} builds another one, which is served then"
    elif checked.repair:
        await checked.catalog.discard_generation(checked.index, record.generation)
        discarded, action = True, "discarded: it could not be loaded"
    for kind, keys in faults.items():
        if keys:
            mended = len(keys) if discarded else 0
            checked.report.findings.append(Finding(kind, place, len(keys), mended, tuple(keys), action))
