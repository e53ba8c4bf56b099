"""The parts of one file on their way from the object store into the cache, each verified as it arrives."""

import hashlib
from collections.abc import Callable

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations.folder import CacheFolder
from visualindex.generations.manifest import FileEntry, Manifest
from visualindex.generations.partials import Partial
from visualindex.generations.threads import all_of, in_thread
from visualindex.objectstore import ObjectStore, part_key

_AT_ONCE = 3
"""Parts in memory and on their way."""


class Transfer:
    """Fetches what is missing of a file; at most `_AT_ONCE` parts are in memory."""

    def __init__(self, store: ObjectStore, index: str, manifest: Manifest, folder: CacheFolder) -> None:
        self._store = store
        self._index = index
        self._manifest = manifest
        self._folder = folder

    async def fill(self, entry: FileEntry, partial: Partial, arrived: Callable[[int], None]) -> None:
        """Fetch the parts that `partial` lacks; `arrived` is told how many bytes of the file are there.

        Raises ProblemError: of the object store or the cache's directory; INTERNAL naming an object that is not what its
        name says.
        """
        size = self._manifest.part_bytes
        with self._folder.translated():
            missing = await in_thread(partial.missing, entry, size)
        left = sum(_length(entry, number, size) for number in missing)
        arrived(entry.bytes - left)
        numbers = iter(missing)

        async def carry() -> None:
            nonlocal left
            for number in numbers:
                data = await self._part(entry, number)
                with self._folder.translated():
                    await in_thread(partial.write, data, number * size)
                left -= len(data)
                arrived(entry.bytes - left)

        await all_of(carry() for _ in range(min(_AT_ONCE, len(missing))))

    async def _part(self, entry: FileEntry, number: int) -> bytes:
        """One part; asked for a second time when the bytes are wrong, which may have happened on the way."""
        key = part_key(self._index, bytes.fromhex(entry.parts[number]))
        for _ in range(2):
            data = await self._got(key, entry)
            if await in_thread(_sha256, data) == entry.parts[number]:
                return data
        raise self._unusable(key, entry, f"its {len(data)} bytes do not have the digest in its name")

    async def _got(self, key: str, entry: FileEntry) -> bytes:
        try:
            return await self._store.get(key)
        except ProblemError as problem:
            if problem.type is ProblemType.NOT_FOUND:
                raise self._unusable(key, entry, "it does not exist") from problem
            if problem.type is ProblemType.INTERNAL:
                raise self._unusable(key, entry, problem.detail) from problem
            raise

    def _unusable(self, key: str, entry: FileEntry, why: str) -> ProblemError:
        return ProblemError(
            ProblemType.INTERNAL,
            f"object {key}, a part of {entry.name} of generation {self._manifest.generation} of index {self._index}, "
            f"cannot be used: {why}. Restore it from a backup, or delete it and publish the generation again",
        )


def _length(entry: FileEntry, number: int, part_bytes: int) -> int:
    return min(part_bytes, entry.bytes - number * part_bytes)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
