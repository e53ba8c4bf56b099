"""Are the pictures there that images refer to, and no others."""

import datetime as dt
from collections.abc import Collection
from functools import partial

from visualindex.checking import Finding, FindingKind, split
from visualindex.checking.originals import PARTS, digest_of, drawn
from visualindex.identity import content_digest
from visualindex.objectstore import index_prefix, original_key
from visualindex_jobs.checked import Breather, Checked

_DAY_S = 86_400.0
_PLACE = "object store"
_PUT_AGAIN = (
    "nobody else has the file, put these images again: a batch on the server does so by itself, "
    "`visualindex ingest` with --again"
)


async def check_originals(checked: Checked) -> None:
    """Compare the digests of images with the originals in the object store, a 256th of them at a time."""
    breather = Breather()
    missing, damaged, orphaned = _Tally(), _Tally(), _Tally()
    for part in range(PARTS):
        checked.go_on("comparing originals", part, PARTS)
        # The database first: an original is stored before its image, so what is missing then is missing.
        wanted = await checked.catalog.original_digests(checked.index, part)
        there = await _stored(checked, part)
        checked.report.originals += len(there)
        found = split(wanted, there)
        lost = await _missing(checked, found.missing, missing)
        # What a check found damaged is read by the next one, too, whatever it draws: else it would lose its mark.
        marked = await checked.catalog.missing_originals(checked.index, wanted & there)
        for digest in sorted(marked.union(drawn(wanted & there, checked.read_share, checked.job.job_id))):
            checked.go_on("reading originals", part, PARTS)
            if not await _read(checked, digest, damaged):
                lost.add(digest)
            await breather.rest()
        await checked.catalog.note_missing_originals(checked.index, part, lost, checked.job.fence)
        await _orphaned(checked, found.orphaned, orphaned)
        await breather.rest()
    missing.report(checked, FindingKind.MISSING_ORIGINAL, _PUT_AGAIN)
    damaged.report(checked, FindingKind.DAMAGED_ORIGINAL, _PUT_AGAIN)
    orphaned.report(checked, FindingKind.ORPHANED_ORIGINAL, "check again with repair")


class _Tally:
    """Faults of one kind."""

    def __init__(self) -> None:
        self.count = 0
        self.mended = 0
        self.examples: list[str] = []
        self.action = ""

    def report(self, checked: Checked, kind: FindingKind, remedy: str) -> None:
        """Write them down if there are any."""
        if self.count:
            action = self.action if self.mended == self.count else remedy
            checked.report.findings.append(
                Finding(kind, _PLACE, self.count, self.mended, tuple(self.examples), action)
            )


async def _stored(checked: Checked, part: int) -> set[bytes]:
    prefix = f"{index_prefix(checked.index)}originals/{part:02x}/"
    keys = [key async for key in checked.store.list(prefix)]
    return {digest for key in keys if (digest := digest_of(key)) is not None}


async def _missing(checked: Checked, suspected: Collection[bytes], tally: _Tally) -> set[bytes]:
    """Those that really are missing get their bytes back from another index; returns those that do not."""
    gone = [d for d in suspected if await checked.store.stat(original_key(checked.index, d)) is None]
    referred = await checked.catalog.images_of(checked.index, gone) if gone else {}
    lost = set[bytes]()
    for digest, images in sorted(referred.items()):
        tally.count += 1
        tally.examples += map(str, images)
        if checked.repair and await _copied(checked, digest):
            tally.mended += 1
            tally.action = "copied from another index that has the same file"
        else:
            lost.add(digest)
    return lost


async def _read(checked: Checked, digest: bytes, tally: _Tally) -> bool:
    """Whether an original is what its digest says, be it that another index has replaced a damaged one."""
    right = await checked.is_right(original_key(checked.index, digest), partial(_is, digest))
    checked.report.originals_read += right is not None
    if right is not False:  # None: erased meanwhile
        return True
    images = (await checked.catalog.images_of(checked.index, [digest])).get(digest, [])
    tally.count += 1
    tally.examples += map(str, images)
    if checked.repair and await _copied(checked, digest):
        tally.mended += 1
        tally.action = "copied from another index that has the same file"
        return True
    return False


def _is(digest: bytes, data: bytes) -> bool:
    return content_digest(data) == digest


async def _copied(checked: Checked, digest: bytes) -> bool:
    """Whether another index in this store had the same file. What is copied is compared with its digest."""
    for other in await checked.catalog.other_indexes_with(checked.index, digest):
        key = original_key(other, digest)
        right, data = await checked.read(key, partial(_is, digest))
        if right and (stat := await checked.store.stat(key)) is not None:
            await checked.store.put(original_key(checked.index, digest), data, content_type=stat.content_type)
            return True
    return False


async def _orphaned(checked: Checked, suspected: Collection[bytes], tally: _Tally) -> None:
    """Old ones that nobody refers to and whose erasure nobody asked for: the sweep erases them if that stays so."""
    referred = await checked.catalog.images_of(checked.index, suspected) if suspected else {}
    asked = await checked.catalog.to_be_erased(checked.index, suspected) if suspected else set()
    old = [
        digest for digest in sorted(suspected) if digest not in referred and digest not in asked
        and await _is_old(checked, digest)
    ]  # fmt: skip
    tally.count += len(old)
    tally.examples += [digest.hex() for digest in old]
    if old and checked.repair:
        await checked.catalog.request_erasures(checked.index, old, checked.job.fence)
        tally.mended += len(old)
        tally.action = "to be erased within seconds"


async def _is_old(checked: Checked, digest: bytes) -> bool:
    """Whether no upload can still be about to refer to it."""
    stat = await checked.store.stat(original_key(checked.index, digest))
    age = dt.timedelta(seconds=float(checked.job.parameters.get("orphan_age_s", _DAY_S)))
    return stat is not None and dt.datetime.now(dt.UTC) - stat.modified >= age
