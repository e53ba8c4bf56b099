"""Can the generations of an index still be fetched: is each manifest there, and each part it names."""

from collections.abc import Mapping
from typing import Any

from visualindex.catalog import BUILD, GenerationRecord
from visualindex.checking import Finding, FindingKind
from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import Manifest, read_manifest
from visualindex.generations.manifest import canonical
from visualindex.objectstore import manifest_key, part_key, part_prefix
from visualindex_jobs.checked import Checked

_SERVED = ("active", "preparing")
_ENDED = ("retired", "gone")


async def check_generations(checked: Checked) -> None:
    """Compare the generations that the database has with what the object store has of them."""
    records = await checked.catalog.list_generations(checked.index)
    if not records:
        return
    checked.go_on("comparing generations", 0, len(records))
    parts = {key async for key in checked.store.list(part_prefix(checked.index))}
    for number, record in enumerate(records):
        checked.go_on("comparing generations", number, len(records))
        manifest = await _manifest(checked, record)
        if manifest is None:
            continue
        lacking = [key for key in _part_keys(checked.index, manifest) if key not in parts]
        gone = [key for key in lacking if await checked.store.stat(key) is None]
        if gone and not await _has_ended(checked, record):
            await _without_parts(checked, record, gone)


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


def _part_keys(index: str, manifest: Manifest) -> list[str]:
    parts = {part for shard in manifest.shards for file in shard.files for part in file.parts}
    return [part_key(index, bytes.fromhex(part)) for part in sorted(parts)]


async def _without_parts(checked: Checked, record: GenerationRecord, gone: list[str]) -> None:
    """Replicas that hold it go on with it, others serve the database's rows; what is served gets a successor."""
    place = f"generation {record.generation}, {record.state}"
    mended, action = 0, "check again with repair"
    if checked.repair and record.state in _SERVED:
        parameters: Mapping[str, Any] = {"activate": True, "reason": "missing parts"}
        job, _ = await checked.catalog.request_job(checked.index, BUILD, parameters)
        action = f"job {job.job_id} builds another one, which is served then"
    elif checked.repair:
        await checked.catalog.discard_generation(checked.index, record.generation)
        mended, action = len(gone), "discarded: it could not be loaded"
    checked.report.findings.append(
        Finding(FindingKind.MISSING_PART, place, len(gone), mended, tuple(gone), action)
    )
