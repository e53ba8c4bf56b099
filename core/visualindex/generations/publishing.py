"""A generation's way into the object store: whatever happens on it, readers see all of the generation or none.

Its shards come one by one, from wherever they were built, and each is held by a *pending* manifest of itself alone, so that
whoever retires others leaves its parts. The manifest of all comes last and takes the place of those.
"""

import dataclasses
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations.digests import describe
from visualindex.generations.manifest import FileEntry, Manifest, ShardFiles
from visualindex.generations.reading import valid_name
from visualindex.generations.threads import all_of, in_thread
from visualindex.objectstore import (
    ObjectStat,
    ObjectStore,
    manifest_key,
    manifest_prefix,
    part_key,
    pending_key,
)

JSON = "application/json"
_PART = "application/octet-stream"
_AT_ONCE = 3
"""Parts in memory and on their way."""
_ASKED_AT_ONCE = 16
"""Parts that the store is asked for at a time."""

Turn = Callable[[], AbstractAsyncContextManager[None]]
"""What excludes retirements while a publication begins: see `retire`."""


@dataclasses.dataclass(frozen=True)
class _Part:
    """A stretch of a local file that the object store shall hold."""

    path: Path
    offset: int
    length: int
    digest: str


async def publish(
    store: ObjectStore,
    index: str,
    manifest: Manifest,
    shard_dirs: Sequence[tuple[range, int, Path]],
) -> Manifest:
    """Publish directories of files as a generation and return its manifest: `publish_shard` of each, then `complete`.

    `manifest` has no shards yet; `shard_dirs` gives each shard's buckets, images and directory, in order.
    """
    of_index = dataclasses.replace(manifest, index=index)
    shards = [await publish_shard(store, of_index, *given) for given in shard_dirs]
    return await complete(store, dataclasses.replace(of_index, shards=tuple(shards)))


async def publish_shard(
    store: ObjectStore,
    manifest: Manifest,
    buckets: range,
    images: int,
    directory: Path,
    *,
    turn: Turn = nullcontext,
) -> ShardFiles:
    """Upload the files of one shard of a generation that is still built, and hold them until `complete`.

    `manifest` needs no shards yet. A repeat after a crash uploads only what is missing or damaged. At most 96 MiB of the
    files are in memory at a time.

    Raises ProblemError: of the object store; INVALID_REQUEST for files no manifest can list; INTERNAL when a file changed
    meanwhile; UNAVAILABLE when one cannot be read.
    """
    shard = await _described(manifest, buckets, images, directory)
    async with turn():
        await hold(store, manifest, shard)
    await _upload(store, manifest.index, _parts(manifest, shard, directory))
    return shard


async def hold(store: ObjectStore, manifest: Manifest, shard: ShardFiles) -> None:
    """Keep the parts of an uploaded shard from retirements for a day; asked again it holds them for another."""
    held = _held(manifest, shard)
    await store.put(pending_key(held.index, held.generation), held.to_json(), content_type=JSON)


async def let_go(store: ObjectStore, manifest: Manifest, shards: Iterable[ShardFiles]) -> None:
    """End what `hold` began: these shards are part of a published generation, or never will be."""
    await store.delete([pending_key(manifest.index, _held(manifest, one).generation) for one in shards])


async def complete(store: ObjectStore, manifest: Manifest) -> Manifest:
    """Publish a generation whose shards are all uploaded, and return its manifest.

    One that is published already keeps the manifest it has, which is returned. Raises ProblemError: of the object store;
    UNAVAILABLE when a part is not there any more.
    """
    await _check_parts(store, manifest)
    published = await _published(store, manifest.index, manifest.generation)
    if published is None:
        await store.put(
            manifest_key(manifest.index, manifest.generation), manifest.to_json(), content_type=JSON
        )
    await let_go(store, manifest, manifest.shards)
    return published or manifest


async def read_manifest(store: ObjectStore, index: str, generation: str) -> Manifest:
    """The manifest of a published generation.

    Raises ProblemError: NOT_FOUND when there is none; INTERNAL or UNAVAILABLE naming the object and what is wrong with it.
    """
    return await manifest_at(store, manifest_key(index, generation), index, generation)


async def list_generations(store: ObjectStore, index: str) -> list[str]:
    """The ids of the published generations of an index, in ascending order (which says nothing of their age)."""
    return await named(store, manifest_prefix(index))


async def manifest_at(store: ObjectStore, key: str, index: str, generation: str) -> Manifest:
    """The manifest under `key`, checked to be that of this generation. Raises as `read_manifest`."""
    try:
        manifest = Manifest.from_json(await store.get(key))
    except ProblemError as problem:
        if problem.type is ProblemType.NOT_FOUND:
            raise ProblemError(
                ProblemType.NOT_FOUND,
                f"index {index} has no generation {generation} in the object store ({key}): choose one that is published",
            ) from problem
        raise ProblemError(
            problem.type, f"object {key}: {problem.detail}", retry_after_s=problem.retry_after_s
        ) from problem
    if (manifest.index, manifest.generation) != (index, generation):
        raise ProblemError(
            ProblemType.INTERNAL,
            f"object {key} holds the manifest of index {manifest.index}, generation {manifest.generation}: "
            "it was renamed or copied; restore it from a backup, or delete it",
        )
    return manifest


async def named(store: ObjectStore, prefix: str) -> list[str]:
    """The generations whose manifests lie below `prefix`, in ascending order."""
    keys = [key.removeprefix(prefix) async for key in store.list(prefix)]
    return sorted(key.removesuffix(".json") for key in keys if key.endswith(".json"))


async def _described(manifest: Manifest, buckets: range, images: int, directory: Path) -> ShardFiles:
    try:
        files = await in_thread(_files, directory, manifest.part_bytes)
    except OSError as error:
        raise ProblemError(
            ProblemType.UNAVAILABLE,
            f"{error.filename or directory} cannot be read ({error.strerror}): build the generation again",
        ) from error
    return ShardFiles(buckets, images, files)


def _files(directory: Path, part_bytes: int) -> tuple[FileEntry, ...]:
    paths = sorted(directory.iterdir())
    for path in paths:
        if not path.is_file() or path.is_symlink():
            raise ProblemError(
                ProblemType.INVALID_REQUEST,
                f"{path} is not a plain file: a shard's directory holds nothing else",
            )
        valid_name(path.name)
    return tuple(describe(path, part_bytes) for path in paths)


def _held(manifest: Manifest, shard: ShardFiles) -> Manifest:
    """A manifest of one shard alone, whose id nothing changes that becomes known with other shards."""
    return dataclasses.replace(manifest, shards=(shard,), parameters={}, recall={})


def _parts(manifest: Manifest, shard: ShardFiles, directory: Path) -> Iterator[_Part]:
    """Every different part of a shard once, with a place where its bytes are."""
    seen = set[str]()
    for entry in shard.files:
        for number, digest in enumerate(entry.parts):
            if digest not in seen:
                seen.add(digest)
                offset = number * manifest.part_bytes
                length = min(manifest.part_bytes, entry.bytes - offset)
                yield _Part(directory / entry.name, offset, length, digest)


async def _check_parts(store: ObjectStore, manifest: Manifest) -> None:
    """Raise unless every part is there: a shard may have been uploaded days ago, by another machine."""
    every = (part for shard in manifest.shards for part in _parts(manifest, shard, Path()))
    parts = iter({part.digest: part for part in every}.values())

    async def ask() -> None:
        for part in parts:
            key = part_key(manifest.index, bytes.fromhex(part.digest))
            if not await _has(store.stat, key, part.length):
                raise ProblemError(
                    ProblemType.UNAVAILABLE,
                    f"object {key} of {part.path} went lost while the generation was built: build it again",
                )

    await all_of(ask() for _ in range(_ASKED_AT_ONCE))


async def _upload(store: ObjectStore, index: str, parts: Iterator[_Part]) -> None:
    """Put the parts that the store lacks or has damaged, a few at a time; the first failure ends all."""

    async def carry() -> None:
        for part in parts:
            await _ensure(store, part_key(index, bytes.fromhex(part.digest)), part)

    await all_of(carry() for _ in range(_AT_ONCE))


async def _ensure(store: ObjectStore, key: str, part: _Part) -> None:
    if await _has(store.verify, key, part.length):
        return
    data = await in_thread(_read, part)
    await store.put(key, data, content_type=_PART)


async def _has(look: Callable[[str], Awaitable[ObjectStat | None]], key: str, size: int) -> bool:
    try:
        found = await look(key)
    except ProblemError as problem:
        if problem.type is not ProblemType.INTERNAL:
            raise
        return False  # damaged: to be replaced
    return found is not None and found.size == size


def _read(part: _Part) -> bytes:
    try:
        descriptor = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, part.length, part.offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ProblemError(
            ProblemType.UNAVAILABLE,
            f"{part.path} cannot be read ({error.strerror}): build the generation again",
        ) from error
    if hashlib.sha256(data).hexdigest() != part.digest:
        raise ProblemError(
            ProblemType.INTERNAL,
            f"{part.path} changed while it was published: publish it when it is complete",
        )
    return data


async def _published(store: ObjectStore, index: str, generation: str) -> Manifest | None:
    """The manifest that is there already, unless it has to be written (again)."""
    try:
        return await read_manifest(store, index, generation)
    except ProblemError as problem:
        if problem.type in (ProblemType.NOT_FOUND, ProblemType.INTERNAL):
            return None
        raise
