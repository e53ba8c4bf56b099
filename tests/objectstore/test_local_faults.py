"""What a folder does when the disk is full, the process dies or a block rots."""

import errno
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import LocalObjectStore
from visualindex.objectstore.scratch import Scratch

MIB = 1024**2


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalObjectStore]:
    """An empty store in the test's folder."""
    opened = LocalObjectStore(tmp_path / "store")
    yield opened
    await opened.close()


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, really full when it is full; mounting needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "volume"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this sandbox does not allow mounting a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


async def test_a_full_disk_is_a_problem_without_a_trace_and_heals(small_volume: Path) -> None:
    """STORAGE_FULL, no partial file, reads still work, and writes do again once there is room."""
    store = LocalObjectStore(small_volume / "store")
    try:
        await store.put("a/first", secrets.token_bytes(3 * MIB), content_type="image/png")
        before = _files(small_volume)
        with pytest.raises(ProblemError, match="free space") as caught:
            await store.put("a/second", secrets.token_bytes(2 * MIB), content_type="image/png")
        assert caught.value.type is ProblemType.STORAGE_FULL
        assert caught.value.retry_after_s
        assert _files(small_volume) == before
        assert await store.stat("a/second") is None
        assert len(await store.get("a/first")) == 3 * MIB
        await store.delete(["a/first"])
        await store.put("a/second", secrets.token_bytes(2 * MIB), content_type="image/png")
        await store.check()
    finally:
        await store.close()


async def test_a_refused_overwrite_keeps_the_old_content(small_volume: Path) -> None:
    """A replacement that does not fit leaves what was there."""
    store = LocalObjectStore(small_volume / "store")
    try:
        old = secrets.token_bytes(2 * MIB)
        await store.put("state", old, content_type="text/plain")
        with pytest.raises(ProblemError):
            await store.put("state", secrets.token_bytes(3 * MIB), content_type="text/plain")
        assert await store.get("state") == old
    finally:
        await store.close()


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """Writes beyond 1 MiB fail in this process, as they do at a quota; needs no root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    yield MIB
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, previous)


async def test_a_write_cut_short_leaves_nothing(
    store: LocalObjectStore, tmp_path: Path, file_size_limit: int
) -> None:
    """A write that fails half-way is STORAGE_FULL and leaves no file, anywhere in the folder."""
    with pytest.raises(ProblemError) as caught:
        await store.put("a/large", bytes(file_size_limit + 1), content_type="image/png")
    assert caught.value.type is ProblemType.STORAGE_FULL
    assert _files(tmp_path) == []
    await store.put("a/small", b"fits", content_type="image/png")


_DIES_WHILE_WRITING = textwrap.dedent(
    """
    import asyncio, os, sys
    from pathlib import Path
    from visualindex.objectstore import LocalObjectStore

    async def main():
        store = LocalObjectStore(Path(sys.argv[1]))
        await store.put("a/done", b"done", content_type="image/png")
        os.fsync = lambda descriptor: os._exit(9) if os.fstat(descriptor).st_size > 100_000 else None
        await store.put("a/torn", bytes(100_000), content_type="image/png")

    asyncio.run(main())
    """
)


async def test_what_a_crashed_writer_left_is_swept(tmp_path: Path) -> None:
    """A process that dies before its flush leaves a scratch file; the next start removes it, and only it."""
    folder = tmp_path / "store"
    command = [sys.executable, "-c", _DIES_WHILE_WRITING, str(folder)]
    assert subprocess.run(command, check=False).returncode == 9  # noqa: ASYNC221
    assert [path.stat().st_size > 100_000 for path in _files(folder / "scratch")] == [True]
    store = LocalObjectStore(folder)
    assert _files(folder / "scratch") == []
    assert [key async for key in store.list("")] == ["a/done"]
    await store.close()


async def test_a_second_store_leaves_a_living_writer_alone(store: LocalObjectStore, tmp_path: Path) -> None:
    """Processes that share a folder do not sweep each other's scratch folders."""
    scratch = set((tmp_path / "store" / "scratch").glob("writer-*"))
    second = LocalObjectStore(tmp_path / "store")
    assert all(folder.is_dir() for folder in scratch)
    await second.put("from/second", b"2", content_type="image/png")
    await store.put("from/first", b"1", content_type="image/png")
    await second.close()
    assert {key async for key in store.list("from/")} == {"from/first", "from/second"}
    assert set((tmp_path / "store" / "scratch").glob("writer-*")) == scratch


def test_starting_at_once_hurts_nobody(tmp_path: Path) -> None:
    """Many starts, sweeps and ends at the same moment never take a living writer's folder, and leave none behind."""
    barrier = threading.Barrier(8)

    def start_and_leave() -> bool:
        barrier.wait()
        kept = []
        for _ in range(20):
            scratch = Scratch(tmp_path)
            kept.append(scratch.folder.is_dir() and not _files(scratch.folder))
            scratch.close()
        return all(kept)

    with ThreadPoolExecutor(8) as threads:
        results = [threads.submit(start_and_leave) for _ in range(8)]
    assert [result.result() for result in results] == [True] * 8
    assert list(tmp_path.glob("writer-*")) == []


async def test_equal_content_is_not_written_twice(store: LocalObjectStore, tmp_path: Path) -> None:
    """The second put of the same bytes leaves the very same file, as its inode shows."""
    await store.put("a/one", b"bytes", content_type="image/png")
    first = [path.stat().st_ino for path in _files(tmp_path)]
    await store.put("a/one", b"bytes", content_type="image/png")
    assert [path.stat().st_ino for path in _files(tmp_path)] == first
    await store.put("a/one", b"other", content_type="image/png")
    assert [path.stat().st_ino for path in _files(tmp_path)] != first


@pytest.mark.parametrize("position", [0, 500, -1, -10])
async def test_a_damaged_file_is_an_error_until_it_is_replaced(
    store: LocalObjectStore, tmp_path: Path, position: int
) -> None:
    """A flipped bit anywhere, in content or trailer, is noticed when read; putting again heals it."""
    await store.put("a/one", bytes(1000), content_type="image/png")
    [file] = _files(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[position] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ProblemError, match="a/one is damaged"):
        await store.get("a/one")
    with pytest.raises(ProblemError, match="a/one is damaged"):
        await store.verify("a/one")
    await store.put("a/one", bytes(1000), content_type="image/png")
    assert await store.get("a/one") == bytes(1000)


@pytest.mark.parametrize("size", [0, 10, 500])
async def test_a_truncated_file_is_an_error_and_is_replaced(
    store: LocalObjectStore, tmp_path: Path, size: int
) -> None:
    """A file cut short is neither served nor taken for already stored."""
    await store.put("a/one", bytes(1000), content_type="image/png")
    [file] = _files(tmp_path)
    os.truncate(file, size)
    with pytest.raises(ProblemError, match="damaged"):
        await store.get("a/one")
    await store.put("a/one", bytes(1000), content_type="image/png")
    assert await store.get("a/one") == bytes(1000)


async def test_a_stored_picture_starts_with_its_own_bytes(store: LocalObjectStore, tmp_path: Path) -> None:
    """People can open the files: content comes first, only a trailer follows."""
    await store.put("a/one", b"\x89PNG content", content_type="image/png")
    [file] = _files(tmp_path)
    assert file.read_bytes().startswith(b"\x89PNG content")


async def test_no_directory_takes_every_file(store: LocalObjectStore, tmp_path: Path) -> None:
    """Files of one key folder are spread over up to 256 directories."""
    for number in range(200):
        await store.put(f"a/{number}", b"", content_type="image/png")
    assert len({file.parent for file in _files(tmp_path)}) > 50


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where the folder should be: the message names the folder and the remedy."""
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(ProblemError, match=r"store.*check that it exists, is mounted and writable") as caught:
        LocalObjectStore(tmp_path / "store")
    assert caught.value.type is ProblemType.UNAVAILABLE


async def test_a_vanished_folder_is_unavailable(store: LocalObjectStore, tmp_path: Path) -> None:
    """When the volume goes away, check says so instead of pretending."""
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(ProblemError) as caught:
        await store.check()
    assert caught.value.type is ProblemType.UNAVAILABLE
    assert os.strerror(errno.ENOENT) in caught.value.detail
