"""Generations on a node: what any process of it fetched serves all of them, verified at every opening."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations.digests import is_intact
from visualindex.generations.folder import CacheFolder, Claim
from visualindex.generations.leases import Lease
from visualindex.generations.manifest import FileEntry, Manifest
from visualindex.generations.partials import Partial
from visualindex.generations.stalls import Stall
from visualindex.generations.threads import all_of, in_thread
from visualindex.generations.transfer import Transfer
from visualindex.objectstore import ObjectStore

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.05
"""How often to look whether another process has fetched what is waited for."""
_TELL_EVERY_S = 30.0
"""How often to tell the log what is waited for."""
_STALLED_S = 600.0
"""A process of whose fetch nothing has arrived for so long is taken to hang: verifying and flushing a file takes less."""

Progress = Callable[[int, int], None]
"""Told bytes there and bytes wanted; the first falls when a damaged file has to be fetched again."""


def _silent(_there: int, _wanted: int) -> None:
    pass


class NodeCache:
    """One directory per node for all its processes, of `limit_bytes` at most."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        """Create `root` where it is missing; ProblemError when it cannot be used."""
        self._folder = CacheFolder(root, limit_bytes)

    async def fetch(
        self,
        store: ObjectStore,
        index: str,
        manifest: Manifest,
        shard: int,
        names: Collection[str] | None = None,
        progress: Progress = _silent,
    ) -> Lease:
        """A lease of the files of a shard, or of those called `names`; what is missing is fetched, everything is verified.

        Two that want the same file fetch it once. A fetch that ended half-way, however, goes on where it ended. Files that
        no living lease holds give way, the least recently used first.

        Raises ProblemError: STORAGE_FULL naming the bytes, before anything is fetched where `limit_bytes` is the reason;
        NOT_FOUND for a shard or a name that the manifest does not list; INTERNAL naming an object that is not what its name
        says; UNAVAILABLE when object store or directory cannot be used, or when another process hangs that fetches a file of
        these: what it has is kept, and another call goes on from there once that process is gone.
        """
        entries = _chosen(manifest, shard, names)
        transfer = Transfer(store, index, manifest, self._folder)
        with ExitStack() as undo:
            lease = await in_thread(self._folder.lease, manifest.generation, shard, undo)
            await _Fetch(self._folder, transfer, lease, entries, progress).finish()
            undo.pop_all()
        return lease


class _Fetch:
    """One fetch: rounds of linking, fetching and waiting until the lease has all files and all are verified."""

    def __init__(
        self,
        folder: CacheFolder,
        transfer: Transfer,
        lease: Lease,
        entries: Sequence[FileEntry],
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._transfer = transfer
        self._lease = lease
        self._entries = entries
        self._progress = progress
        self._there = {entry.digest: 0 for entry in entries}
        self._wanted = sum({entry.digest: entry.bytes for entry in entries}.values())
        self._verified = set[str]()
        self._failed = set[str]()
        self._stall = Stall()
        self._told_at = time.monotonic()

    async def finish(self) -> None:
        while not await self._is_complete():
            pass

    async def _is_complete(self) -> bool:
        with ExitStack() as held:
            claim = await in_thread(self._folder.claim, self._entries, self._lease, held)
            await in_thread(self._count, claim)
            self._tell()
            await self._fetch_all(claim)
        if claim.busy and not claim.owned:
            await in_thread(self._wait_for, claim.busy)
            await asyncio.sleep(_LOOK_EVERY_S)
        if claim.busy or claim.owned:
            return False
        return await self._is_intact()

    def _wait_for(self, busy: Sequence[FileEntry]) -> None:
        """Tell now and then what is waited for; ProblemError UNAVAILABLE where that seems to have no end."""
        there, now = sum(self._there[entry.digest] for entry in busy), time.monotonic()
        still_s = self._stall.lasts_s(there, now)
        if still_s <= _STALLED_S and now - self._told_at < _TELL_EVERY_S:
            return
        self._told_at = now
        what = f"{self._lease.directory.name} waits for {self._folder.fetched(busy[0])}, of which {there} bytes are there"
        if still_s > _STALLED_S:
            raise ProblemError(
                ProblemType.UNAVAILABLE,
                f"{what} and none has come for {still_s:.0f} s: end it if it hangs, and what it has is gone on with",
                retry_after_s=_TELL_EVERY_S,
            )
        log.info("%s", what)

    async def _fetch_all(self, claim: Claim) -> None:
        try:
            for entry, partial in claim.owned:
                await self._fetch(entry, partial)
        except ProblemError as problem:
            if problem.type is ProblemType.STORAGE_FULL:
                for _, partial in claim.owned:
                    await in_thread(self._folder.remove, partial)
            raise

    async def _fetch(self, entry: FileEntry, partial: Partial) -> None:
        await self._transfer.fill(entry, partial, lambda there: self._report(entry, there))
        if await in_thread(self._folder.complete, entry, partial, self._entries, self._lease):
            self._verified.add(entry.digest)
        else:
            self._note_damage(entry, "as it was fetched")

    async def _is_intact(self) -> bool:
        """Whether every file of the lease is what it should be; those that are not are thrown away."""
        damaged = [entry for entry in await all_of(map(self._damage, self._entries)) if entry is not None]
        for entry in damaged:
            await in_thread(self._folder.discard, entry, self._lease)
            self._note_damage(entry, "in the cache")
        return not damaged

    async def _damage(self, entry: FileEntry) -> FileEntry | None:
        if entry.digest in self._verified:
            return None
        with self._folder.translated():
            if not await in_thread(is_intact, self._lease.directory / entry.name, entry):
                return entry
        self._verified.add(entry.digest)
        return None

    def _note_damage(self, entry: FileEntry, where: str) -> None:
        what = f"{entry.name} (content {entry.digest}) of {self._lease.directory.name} fails its checksum {where}"
        if entry.digest in self._failed:
            raise ProblemError(
                ProblemType.INTERNAL,
                f"{what}, again: check this node's disk and memory, or build a new generation",
            )
        self._failed.add(entry.digest)
        log.warning("%s: it is thrown away and fetched again", what)

    def _count(self, claim: Claim) -> None:
        """What is there at the beginning of a round; what the claimant fetches is reported as it arrives."""
        absent = {entry.digest for entry, _ in claim.owned}
        busy = {entry.digest: self._folder.arrived(entry) for entry in claim.busy}
        for entry in self._entries:
            if entry.digest not in absent:
                self._there[entry.digest] = busy.get(entry.digest, entry.bytes)

    def _tell(self) -> None:
        self._progress(sum(self._there.values()), self._wanted)

    def _report(self, entry: FileEntry, there: int) -> None:
        self._there[entry.digest] = there
        self._tell()


def _chosen(manifest: Manifest, shard: int, names: Collection[str] | None) -> list[FileEntry]:
    if not 0 <= shard < len(manifest.shards):
        raise _unlisted(manifest, f"shard {shard}: it has {len(manifest.shards)}")
    files = manifest.shards[shard].files
    unknown = sorted(set(names or ()) - {entry.name for entry in files})
    if unknown:
        raise _unlisted(manifest, f"{', '.join(unknown)} in shard {shard}")
    return [entry for entry in files if names is None or entry.name in names]


def _unlisted(manifest: Manifest, what: str) -> ProblemError:
    return ProblemError(
        ProblemType.NOT_FOUND,
        f"generation {manifest.generation} of index {manifest.index} has no {what}; ask for what its manifest lists",
    )
