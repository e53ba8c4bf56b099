"""Objects that are not ours, to be read: whatever a user's bucket or folder holds, under whatever names."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from visualindex.errors import ProblemError, ProblemType

LIST_PAGE = 1000


@dataclass(frozen=True)
class Listed:
    """An object as a listing has it; `etag` differs when its content does."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class Content:
    """An object as it was read."""

    data: bytes
    etag: str


class SourceObjects(Protocol):
    """A bucket or a folder, read only. Raises ProblemError UNAVAILABLE when it cannot be used, NOT_FOUND for no object."""

    @property
    def place(self) -> str:
        """Its name: equal for equal places, whoever opens them."""

    def list(self, prefix: str, after: str = "") -> AsyncIterator[Listed]:
        """The objects whose keys start with `prefix` and come behind `after`, in the order of their keys' bytes."""

    async def get(self, key: str, most: int) -> Content:
        """An object; ProblemError IMAGE_TOO_LARGE for one of more than `most` bytes, which is not read."""

    async def etag(self, key: str) -> str | None:
        """The etag of an object; None when there is none."""

    async def save(self, key: str, path: Path) -> None:
        """Copy an object, however large, to a new file."""

    async def close(self) -> None:
        """Release threads and connections."""


class FolderObjects:
    """The files below a folder; links that lead out of it are not followed."""

    def __init__(self, root: Path) -> None:
        """Raises ProblemError UNAVAILABLE when there is no such folder."""
        self._root = root.resolve()
        if not self._root.is_dir():
            raise ProblemError(ProblemType.UNAVAILABLE, f"folder {root} does not exist on this machine")
        self.place = self._root.as_uri()

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[Listed]:
        """The files, in the order of their paths' bytes."""
        names = await asyncio.to_thread(lambda: sorted(n for n in self._names() if n.startswith(prefix)))
        behind = iter([name for name in names if name > after])
        while batch := await asyncio.to_thread(self._stats, list(islice(behind, LIST_PAGE))):
            for listed in batch:
                if listed is not None:
                    yield listed

    async def get(self, key: str, most: int) -> Content:
        """A file."""
        return await asyncio.to_thread(self._get, key, most)

    async def etag(self, key: str) -> str | None:
        """What changes with its size, its number and the time of its last change."""
        listed = await asyncio.to_thread(self._stat, key)
        return None if listed is None else listed.etag

    async def save(self, key: str, path: Path) -> None:
        """Copy it."""
        try:
            await asyncio.to_thread(shutil.copyfile, self._path(key), path)
        except (FileNotFoundError, IsADirectoryError):
            raise gone(key) from None

    async def close(self) -> None:
        """Nothing is held."""

    def _names(self) -> Iterator[str]:
        for folder, _, files in os.walk(self._root):
            below = Path(folder).relative_to(self._root)
            yield from ((below / name).as_posix() for name in files)

    def _stats(self, names: Sequence[str]) -> Sequence[Listed | None]:
        return [self._stat(name) for name in names]

    def _stat(self, key: str) -> Listed | None:
        try:
            found = self._path(key).stat()
        except (OSError, ProblemError):
            return None
        seen = f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
        return Listed(key, found.st_size, hashlib.blake2b(seen.encode(), digest_size=16).hexdigest())

    def _get(self, key: str, most: int) -> Content:
        path = self._path(key)
        listed = self._stat(key)
        try:
            if listed is None:
                raise FileNotFoundError(key)
            check_size(key, listed.size, most)
            return Content(path.read_bytes(), listed.etag)
        except FileNotFoundError:
            raise gone(key) from None
        except OSError as error:
            detail = f"{key} cannot be read: {error.strerror or error}"
            raise ProblemError(ProblemType.INVALID_IMAGE, detail) from error

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root):
            detail = f"{key} lies outside of {self._root}: nothing there is read"
            raise ProblemError(ProblemType.FORBIDDEN, detail)
        return path


def check_size(key: str, size: int, most: int) -> None:
    """Raises ProblemError IMAGE_TOO_LARGE for an object of more than `most` bytes."""
    if size > most:
        detail = f"{key} has {size} bytes; at most {most} (limits.imageBytes)."
        raise ProblemError(ProblemType.IMAGE_TOO_LARGE, detail, extra={"limit": most})


def gone(key: str) -> ProblemError:
    """The problem of an object that is not there, or not any more."""
    return ProblemError(ProblemType.NOT_FOUND, f"there is no object {key}")
