"""The cache's directory on a node: which files are there, whose they are, and the one lock that orders all changes.

`files/<digest>` are complete, `partial/<digest>` on their way, `leases/…/<name>` links to those in use. Processes share
the directory; each step below is short, and what it leaves behind when its process dies is recognised by the next.
"""

import errno
import fcntl
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations.leases import Lease, lease_directory, sweep
from visualindex.generations.manifest import FileEntry
from visualindex.generations.partials import Partial
from visualindex.generations.room import Demand, Held, free_bytes, to_evict
from visualindex.generations.stalls import holder_of

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Claim:
    """What is left to do until a lease has all its files."""

    owned: list[tuple[FileEntry, Partial]]
    """To be fetched by the claimant, who has taken their room and locks."""
    busy: list[FileEntry]
    """Being fetched by others."""


class CacheFolder:
    """All methods block; all raise ProblemError, STORAGE_FULL or UNAVAILABLE, where the directory cannot be used."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        """Create what is missing of the directory."""
        self.root = root
        self._limit = limit_bytes
        self._files, self._partial, self._leases = root / "files", root / "partial", root / "leases"
        with self.translated():
            for folder in (self._files, self._partial, self._leases):
                folder.mkdir(parents=True, exist_ok=True)

    def lease(self, generation: str, shard: int, undo: ExitStack) -> Lease:
        """A new lease without files; `undo` releases it."""
        with self.translated(), self._guarded():
            lease = Lease(lease_directory(self._leases, generation, shard))
            undo.callback(lease.release)
        return lease

    def claim(self, entries: Sequence[FileEntry], lease: Lease, held: ExitStack) -> Claim:
        """Link what is there into the lease, and take locks and room for what nobody fetches yet; `held` gives them back.

        Raises STORAGE_FULL before anything is deleted when the room cannot be had.
        """
        with self.translated(), self._guarded():
            absent = {entry.digest: entry for entry in entries if not self._link(entry, lease)}
            claim = Claim([], [])
            for entry in absent.values():
                partial = Partial.claim(self._partial / entry.digest)
                if partial is None:
                    claim.busy.append(entry)
                    continue
                held.callback(partial.close)
                if (self._files / entry.digest).exists():  # completed since we looked
                    partial.remove()
                    claim.busy.append(entry)
                else:
                    claim.owned.append((entry, partial))
            if claim.owned:
                self._take_room(claim)
            return claim

    def complete(
        self, entry: FileEntry, partial: Partial, entries: Sequence[FileEntry], lease: Lease
    ) -> bool:
        """Put a fetched file into its place and into the lease; False, and it is gone, when it is not what it should be."""
        names = [other.name for other in entries if other.digest == entry.digest]
        with self.translated():
            if not partial.complete(
                entry, self._files / entry.digest, [lease.directory / name for name in names]
            ):
                partial.remove()
                return False
            for folder in (self._files, self._partial):
                _flush(folder)
            return True

    def remove(self, partial: Partial) -> None:
        """Give up a partial file and its room."""
        with self.translated():
            partial.remove()

    def discard(self, entry: FileEntry, lease: Lease) -> None:
        """Take a damaged file out of the lease and out of the cache; leases of others keep what they have."""
        file, link = self._files / entry.digest, lease.directory / entry.name
        with self.translated(), self._guarded():
            with suppress(FileNotFoundError):
                if file.samefile(link):
                    file.unlink()
            link.unlink(missing_ok=True)

    def arrived(self, entry: FileEntry) -> int:
        """Bytes that whoever fetches the file has of it."""
        for path in (self._partial / entry.digest, self._files / entry.digest):
            with suppress(OSError):
                return min(entry.bytes, path.stat().st_blocks * 512)
        return 0

    def fetched(self, entry: FileEntry) -> str:
        """A file that another fetches, in words, and whoever that is."""
        path = self._partial / entry.digest
        return f"{entry.name} ({path}), which {holder_of(path)} fetches"

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of the file system as problems that name this directory."""
        try:
            yield
        except OSError as error:
            raise self._problem(error) from error

    def _link(self, entry: FileEntry, lease: Lease) -> bool:
        file, link = self._files / entry.digest, lease.directory / entry.name
        try:
            os.link(file, link)
            os.utime(link)
        except FileExistsError:
            return True
        except FileNotFoundError:
            return False
        return True

    def _take_room(self, claim: Claim) -> None:
        new = sum(entry.bytes - partial.length for entry, partial in claim.owned)
        blocks = sum(max(0, entry.bytes - partial.allocated) for entry, partial in claim.owned)
        started = [partial for _, partial in claim.owned if not partial.length]
        try:
            self._make_room(Demand(new, blocks), {entry.digest for entry, _ in claim.owned})
            for entry, partial in claim.owned:
                partial.take_room(entry)
        except BaseException:
            for partial in started:
                partial.remove()
            raise

    def _make_room(self, demand: Demand, wanted: Collection[str]) -> None:
        sweep(self._leases)
        with ExitStack() as locks:
            held = self._held(wanted, locks)
            for path in to_evict(self.root, held, demand, limit=self._limit, free=free_bytes(self.root)):
                path.unlink(missing_ok=True)

    def _held(self, wanted: Collection[str], locks: ExitStack) -> list[Held]:
        """Every file of the cache once. Partial ones come first, since they become complete meanwhile."""
        found = dict[int, Held]()
        for path in self._partial.iterdir():
            unused = path.name not in wanted and _lock(path, locks)
            _note(found, path, unused)
        for path in self._files.iterdir():
            _note(found, path, None)
        for lease in self._leases.iterdir():
            with suppress(FileNotFoundError):
                for path in lease.iterdir():
                    _note(found, path, False)
        return list(found.values())

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        guard = os.open(self.root / ".guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield
        finally:
            os.close(guard)

    def _problem(self, error: OSError) -> ProblemError:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _NO_ROOM:
            return ProblemError(
                ProblemType.STORAGE_FULL,
                f"no room left for generations in {self.root} ({reason}): free space or enlarge the volume",
            )
        return ProblemError(
            ProblemType.UNAVAILABLE,
            f"the cache of generations in {self.root} cannot be used ({reason}): "
            "check that it exists, is mounted, writable and allows hard links",
        )


def _note(found: dict[int, Held], path: Path, unused: bool | None) -> None:
    with suppress(FileNotFoundError):
        status = path.stat()
        free = status.st_nlink == 1 if unused is None else unused
        found.setdefault(status.st_ino, Held(path, status.st_size, status.st_mtime_ns, free))


def _lock(path: Path, locks: ExitStack) -> bool:
    """Whether nobody writes the partial file; nobody else can begin to until `locks` are given back."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        locks.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    return True


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
