"""A folder as an object store: what `visualindex up` uses when no bucket is configured.

Files lie at `objects/<path of the key>/=<xx>/<last segment>`, where xx is a hash of the last segment: no directory grows
beyond a 256th of its siblings, and since '=' cannot occur in a key, a file and a folder never want the same name.
"""

import asyncio
import errno
import functools
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import envelope
from visualindex.objectstore.base import ObjectStat, checked_key, checked_prefix, missing
from visualindex.objectstore.probe import round_trip
from visualindex.objectstore.scratch import Scratch

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Read = Callable[[int], tuple[envelope.Trailer, int]]
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LIST_BATCH = 1000
_FULL_RETRY_S = 30.0


class LocalObjectStore:
    """Objects as files below `folder`; several processes may share it. See `ObjectStore` for what it promises.

    Writes are flushed to the disk before they are visible, and their directory entries before `put` returns. Putting
    content that is already there writes nothing but the time; a damaged file is replaced, so all of it is read and compared.
    """

    def __init__(self, folder: Path, *, threads: int = 8) -> None:
        """Create `folder` if needed and sweep what crashed writers left; `ProblemError` when it cannot be used."""
        self._root = folder / "objects"
        with _translated(folder):
            self._root.mkdir(parents=True, exist_ok=True)
            self._scratch = Scratch(folder / "scratch")
        self._folder = folder
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="objectstore")

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """Write an object whole or not at all, replacing what the key named before."""
        await self._run(self._put, checked_key(key), data, content_type)

    async def get(self, key: str) -> bytes:
        """The content of an object, verified against its digest; NOT_FOUND when there is none."""
        return await self._run(self._get, checked_key(key))

    async def stat(self, key: str) -> ObjectStat | None:
        """Size, etag and media type of an object, or None when there is none."""
        return await self._run(self._stat, checked_key(key))

    async def verify(self, key: str) -> ObjectStat | None:
        """As `stat`, once all of the object was read and compared with its digest."""
        return await self._run(self._stat, checked_key(key), envelope.verified)

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key that names none is no error."""
        await self._run(self._delete, [checked_key(key) for key in keys])

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Every key that starts with `prefix`, in no promised order."""
        keys = _walk(self._root, checked_prefix(prefix))
        while batch := await self._run(lambda: list(islice(keys, _LIST_BATCH))):
            for key in batch:
                yield key

    async def check(self) -> None:
        """Write, read back and delete a small object."""
        await round_trip(self)

    async def close(self) -> None:
        """Wait for running writes, then release the threads and the scratch folder."""
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self._scratch.close)

    async def _run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        loop = asyncio.get_running_loop()
        with _translated(self._folder):
            return await loop.run_in_executor(self._pool, functools.partial(work, *args, **kwargs))

    def _put(self, key: str, data: bytes, content_type: str) -> None:
        path = _path(self._root, key)
        trailer = envelope.trailer_of(data, content_type)
        if not _renewed(path, trailer, len(data)):
            self._write(path, data, trailer.pack())
        # Also when nothing was written: whoever wrote the file may not have flushed its entry yet.
        _flush_folder(path.parent)

    def _write(self, path: Path, data: bytes, trailer: bytes) -> None:
        _make_folder(path.parent, self._root)
        temporary = self._scratch.folder / secrets.token_hex(16)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.write(trailer)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _get(self, key: str) -> bytes:
        try:
            raw = _path(self._root, key).read_bytes()
        except FileNotFoundError:
            raise missing(key) from None
        with _intact(key):
            return envelope.opened(raw)

    def _stat(self, key: str, read: _Read = envelope.described) -> ObjectStat | None:
        try:
            descriptor = os.open(_path(self._root, key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            with _intact(key):
                trailer, size = read(descriptor)
            modified = datetime.fromtimestamp(os.fstat(descriptor).st_mtime, UTC)
        finally:
            os.close(descriptor)
        return ObjectStat(size, trailer.digest.hex(), trailer.content_type, modified)

    def _delete(self, keys: Sequence[str]) -> None:
        touched = set()
        for path in (_path(self._root, key) for key in keys):
            with suppress(FileNotFoundError):
                path.unlink()
                touched.add(path.parent)
        for folder in touched:
            _flush_folder(folder)


def _path(root: Path, key: str) -> Path:
    parent, _, name = key.rpartition("/")
    return root / parent / f"={hashlib.blake2b(name.encode(), digest_size=1).hexdigest()}" / name


def _walk(root: Path, prefix: str) -> Iterator[str]:
    """Keys below `root`, depth first, entering only folders that can hold `prefix`."""
    pending = [""]
    while pending:
        parent = pending.pop()
        for entry in _entries(root / parent):
            if entry.name.startswith("="):
                keys = (parent + found.name for found in _entries(Path(entry.path)))
                yield from (key for key in keys if key.startswith(prefix))
            else:
                folder = f"{parent}{entry.name}/"
                if folder.startswith(prefix) or prefix.startswith(folder):
                    pending.append(folder)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _renewed(path: Path, trailer: envelope.Trailer, size: int) -> bool:
    """Whether the file already holds this content under this media type; it counts as written now, then."""
    try:
        with path.open("rb") as file:
            if envelope.described(file.fileno()) != (trailer, size):
                return False
            envelope.verified(file.fileno())
        os.utime(path)
    except (FileNotFoundError, envelope.DamagedError):
        return False
    return True


def _make_folder(folder: Path, root: Path) -> None:
    """Create `folder` and flush the entry of every folder that was new."""
    if folder.is_dir():
        return
    if folder != root:
        _make_folder(folder.parent, root)
    folder.mkdir(exist_ok=True)
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _intact(key: str) -> Iterator[None]:
    try:
        yield
    except envelope.DamagedError as damage:
        raise ProblemError(
            ProblemType.INTERNAL,
            f"object {key} is damaged on disk ({damage}): restore it from a backup or delete it",
        ) from damage


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _problem(error, folder) from error


def _problem(error: OSError, folder: Path) -> ProblemError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _NO_ROOM:
        detail = f"no room left for objects in {folder} ({reason}): free space or enlarge the volume"
        return ProblemError(ProblemType.STORAGE_FULL, detail, retry_after_s=_FULL_RETRY_S)
    detail = (
        f"the object folder {folder} cannot be used ({reason}): check that it exists, is mounted and writable"
    )
    return ProblemError(ProblemType.UNAVAILABLE, detail)
