"""A node's cache between processes: fetched once, and nothing stays taken when one of them is killed."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.generations.conftest import PART, Shards, noise
from tests.generations.stores import Observed

from visualindex.errors import ProblemError, ProblemType
from visualindex.generations import Manifest, NodeCache
from visualindex.objectstore import LocalObjectStore

_OTHER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from visualindex.generations import NodeCache, read_manifest
    from visualindex.objectstore import LocalObjectStore

    told = asyncio.Lock()

    class Slow(LocalObjectStore):
        "Says which part it is asked for, and gives it when it is told to."

        async def get(self, key):
            data = await super().get(key)
            if "/parts/" in key:
                print("get", key, flush=True)
                async with told:
                    await asyncio.to_thread(sys.stdin.readline)
            return data

    async def main():
        folder, generation, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
        store = Slow(folder / "store")
        manifest = await read_manifest(store, "shop", generation)
        lease = await NodeCache(folder / "cache", limit).fetch(store, "shop", manifest, 0)
        print("lease", lease.directory, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

    asyncio.run(main())
    """
)


_DIES_AS_IT_ENDS = textwrap.dedent(
    """
    import asyncio, os, signal, sys
    from pathlib import Path
    from visualindex.generations import NodeCache, read_manifest
    from visualindex.objectstore import LocalObjectStore

    def dies(work):
        "Killed before `work` is done to a file on its way; to others it is done."
        def carry(which, *rest):
            path = os.readlink(f"/proc/self/fd/{which}") if isinstance(which, int) else str(which)
            if "/cache/partial/" in path:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(which, *rest)
        return carry

    async def main():
        folder, generation = Path(sys.argv[1]), sys.argv[2]
        store = LocalObjectStore(folder / "store")
        manifest = await read_manifest(store, "shop", generation)
        with await NodeCache(folder / "cache", 1 << 30).fetch(store, "shop", manifest, 0) as lease:
            for path in lease.directory.iterdir():
                print(path.name, oct(path.stat().st_mode & 0o777))

    if os.geteuid() == 0:
        os.setuid(int(sys.argv[3]))  # root may write what is read-only
    for step in sys.argv[4:]:
        holder, name = (Path, "replace") if step == "replace" else (os, step)
        setattr(holder, name, dies(getattr(holder, name)))
    asyncio.run(main())
    """
)
_POD = 65_532
"""The user that pods run as."""


class Other:
    """Another process that fetches shard 0."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def says(self, start: str) -> str:
        """The next line it prints, which begins so."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line.startswith(start), line
        return line

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """It hangs from now on."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """As the kernel does it when memory runs out."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
async def published(store: LocalObjectStore, shards: Shards) -> Manifest:
    """A generation whose vectors are one file of several parts, and nothing else."""
    for shard in range(2):
        for name in ("ids.bin", "by_id.bin", "empty.bin"):
            (shards.root / str(shard) / name).unlink()
        shards.write(shard, "vectors.f16", noise(6 * PART, shard))
    return await shards.publish(store)


@contextmanager
def other_process(folder: Path, manifest: Manifest, limit: int = 1 << 30) -> Iterator[Other]:
    """Another process that fetches shard 0, killed in the end."""
    command = [sys.executable, "-c", _OTHER, str(folder), manifest.generation, str(limit)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        other = Other(process)
        try:
            yield other
        finally:
            other.kill()


async def test_two_processes_fetch_once(
    store: LocalObjectStore, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """The second waits, sees how the first gets on, asks the store for nothing, and has the very same file."""
    told = list[int]()
    observed = Observed(store)
    with other_process(tmp_path, published) as other:
        for _ in range(3):
            await asyncio.to_thread(other.says, "get")
        cache = NodeCache(tmp_path / "cache", 1 << 30)
        waits = asyncio.Event()

        def tell(there: int, _wanted: int) -> None:
            told.append(there)
            waits.set()

        fetch = asyncio.create_task(cache.fetch(observed, "shop", published, 0, progress=tell))
        await waits.wait()
        for _ in range(3):
            other.go_on()
            await asyncio.to_thread(other.says, "get")
        for _ in range(3):
            other.go_on()
        theirs = Path((await asyncio.to_thread(other.says, "lease")).split()[1])
        lease = await fetch
        assert observed.seen == []
        assert (told[0], told[-1]) == (0, 6 * PART)
        assert (lease.directory / "vectors.f16").samefile(theirs / "vectors.f16")
        assert (lease.directory / "vectors.f16").read_bytes() == (
            shards.root / "0" / "vectors.f16"
        ).read_bytes()


async def test_a_killed_fetch_is_continued_by_another_process(
    store: LocalObjectStore, published: Manifest, shards: Shards, tmp_path: Path
) -> None:
    """What had arrived is verified and kept; only the rest is fetched. Nothing of the dead one stays."""
    observed = Observed(store)
    with other_process(tmp_path, published) as other:
        for _ in range(3):
            await asyncio.to_thread(other.says, "get")
        for _ in range(3):
            other.go_on()
            await asyncio.to_thread(other.says, "get")
        cache = NodeCache(tmp_path / "cache", 1 << 30)
        fetch = asyncio.create_task(cache.fetch(observed, "shop", published, 0))
        other.kill()
        lease = await fetch
    assert len(observed.keys("get")) == 3
    assert (lease.directory / "vectors.f16").read_bytes() == (shards.root / "0" / "vectors.f16").read_bytes()
    assert list((tmp_path / "cache" / "partial").iterdir()) == []


async def test_a_lease_lasts_as_long_as_its_process(
    store: LocalObjectStore, published: Manifest, tmp_path: Path
) -> None:
    """While it lives its files are in use; killed, they give way."""
    limit = 6 * PART
    with other_process(tmp_path, published, limit) as other:
        for _ in range(6):
            await asyncio.to_thread(other.says, "get")
            other.go_on()
        theirs = Path((await asyncio.to_thread(other.says, "lease")).split()[1])
        cache = NodeCache(tmp_path / "cache", limit)
        with pytest.raises(ProblemError, match="6000 bytes of its 6000 are in use"):
            await cache.fetch(store, "shop", published, 1)
        other.kill()
        assert theirs.name in os.listdir(theirs.parent)
        lease = await cache.fetch(store, "shop", published, 1)
    assert os.listdir(theirs.parent) == [lease.directory.name]


async def test_an_abandoned_partial_file_gives_way(
    store: LocalObjectStore, published: Manifest, tmp_path: Path
) -> None:
    """Its room counts, and is given to whoever needs it."""
    limit = 6 * PART
    with other_process(tmp_path, published, limit) as other:
        for _ in range(3):
            await asyncio.to_thread(other.says, "get")
        cache = NodeCache(tmp_path / "cache", limit)
        with pytest.raises(ProblemError, match="6000 bytes of its 6000 are in use"):
            await cache.fetch(store, "shop", published, 1)
        other.kill()
        await cache.fetch(store, "shop", published, 1)
    assert list((tmp_path / "cache" / "partial").iterdir()) == []


async def test_a_process_that_hangs_is_not_waited_for_without_an_end(
    store: LocalObjectStore, published: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, it keeps its lock: who waits is told of file, process and remedy, and goes on once that has ended."""
    observed = Observed(store)
    cache = NodeCache(tmp_path / "cache", 1 << 30)
    monkeypatch.setattr("visualindex.generations.cache._STALLED_S", 0.5)
    with other_process(tmp_path, published) as other:
        for _ in range(3):
            await asyncio.to_thread(other.says, "get")
        other.stop()
        async with asyncio.timeout(60):
            with pytest.raises(ProblemError, match=r"none has come for .* s: end it if it hangs") as caught:
                await cache.fetch(observed, "shop", published, 0)
        assert caught.value.type is ProblemType.UNAVAILABLE
        assert caught.value.retry_after_s
        digest = published.shards[0].files[0].digest
        assert f"vectors.f16 ({tmp_path}/cache/partial/{digest})" in caught.value.detail
        assert f"which process {other.pid} fetches" in caught.value.detail
        assert observed.seen == []
    (await cache.fetch(observed, "shop", published, 0)).release()


async def test_who_waits_tells_the_log_for_what(
    store: LocalObjectStore,
    published: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And goes on to wait while another process lives up to it."""
    monkeypatch.setattr("visualindex.generations.cache._TELL_EVERY_S", 0.0)
    caplog.set_level("INFO", "visualindex.generations.cache")
    with other_process(tmp_path, published) as other:
        for _ in range(3):
            await asyncio.to_thread(other.says, "get")
        fetch = asyncio.create_task(NodeCache(tmp_path / "cache", 1 << 30).fetch(store, "shop", published, 0))
        async with asyncio.timeout(60):
            while not caplog.records:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.01)
        for _ in range(6):
            other.go_on()
        (await fetch).release()
    assert f"which process {other.pid} fetches" in caplog.records[0].getMessage()


@pytest.fixture
def pods_folder() -> Iterator[Path]:
    """A folder that an ordinary user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def _fetch_as_pod(folder: Path, manifest: Manifest, *dies: str) -> "subprocess.CompletedProcess[str]":
    """Fetch shard 0 in a process without privileges, killed at one of these steps of putting a file into its place."""
    for path in [folder, *folder.rglob("*")] if os.geteuid() == 0 else []:
        shutil.chown(path, _POD)
    command = [sys.executable, "-c", _DIES_AS_IT_ENDS, str(folder), manifest.generation, str(_POD), *dies]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("step", ["fsync", "link", "fchmod", "replace"])
async def test_a_fetch_that_is_killed_as_it_ends_is_continued_without_privileges(
    shards: Shards, pods_folder: Path, step: str
) -> None:
    """Whatever it had done to the file: no process of a pod would be let write to a read-only one."""
    store = LocalObjectStore(pods_folder / "store")
    manifest = await shards.publish(store)
    await store.close()
    killed = await asyncio.to_thread(_fetch_as_pod, pods_folder, manifest, step)
    assert killed.returncode == -9, killed.stderr
    assert list((pods_folder / "cache" / "partial").iterdir())
    again = await asyncio.to_thread(_fetch_as_pod, pods_folder, manifest)
    names = ["by_id.bin", "empty.bin", "ids.bin", "vectors.f16"]
    assert sorted(again.stdout.splitlines()) == [f"{name} 0o444" for name in names], again.stderr
    assert list((pods_folder / "cache" / "partial").iterdir()) == []
