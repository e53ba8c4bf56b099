"""What a bucket does when its server dies, is full, or was configured wrongly."""

import asyncio
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore.s3 import S3ObjectStore
from visualindex.spec.models import S3Spec

if TYPE_CHECKING:
    from conftest import MinioServer


@asynccontextmanager
async def _opened(spec: S3Spec, access_key: str, secret_key: str) -> AsyncIterator[S3ObjectStore]:
    store = S3ObjectStore(spec, access_key, secret_key)
    try:
        yield store
    finally:
        await store.close()


async def _problem_of_check(spec: S3Spec, access_key: str, secret_key: str) -> ProblemError:
    async with _opened(spec, access_key, secret_key) as store:
        with pytest.raises(ProblemError) as caught:
            await store.check()
    assert secret_key not in caught.value.detail
    return caught.value


@pytest.mark.minio
async def test_a_wrong_access_key_is_named(shared_minio: "MinioServer") -> None:
    """Unknown access key: one attempt, no advice to retry, the remedy is in the message."""
    problem = await _problem_of_check(
        shared_minio.spec(shared_minio.new_bucket()), "nobody", secrets.token_hex(20)
    )
    assert problem.type is ProblemType.UNAVAILABLE
    assert "the access key is unknown" in problem.detail
    assert problem.retry_after_s is None


@pytest.mark.minio
async def test_a_wrong_secret_key_is_named(shared_minio: "MinioServer") -> None:
    """A wrong secret is told apart from an unknown access key."""
    spec = shared_minio.spec(shared_minio.new_bucket())
    problem = await _problem_of_check(spec, shared_minio.access_key, secrets.token_hex(20))
    assert "the secret key is wrong" in problem.detail


@pytest.mark.minio
async def test_a_missing_bucket_is_named(shared_minio: "MinioServer") -> None:
    """The message names the bucket and says to create it."""
    spec = shared_minio.spec("no-such-bucket")
    problem = await _problem_of_check(spec, shared_minio.access_key, shared_minio.secret_key)
    assert "bucket no-such-bucket" in problem.detail
    assert "create it" in problem.detail


@pytest.mark.minio
async def test_tls_against_a_server_without_tls_is_explained(shared_minio: "MinioServer") -> None:
    """The commonest misconfiguration says which field to change."""
    spec = shared_minio.spec("any-bucket").model_copy(update={"secure": True})
    problem = await _problem_of_check(spec, shared_minio.access_key, shared_minio.secret_key)
    assert "storage.s3.secure" in problem.detail


@pytest.mark.minio
async def test_two_prefixes_of_one_bucket_do_not_meet(shared_minio: "MinioServer") -> None:
    """A bucket shared through prefixes lists and deletes only its own part."""
    bucket = shared_minio.new_bucket()
    keys = shared_minio.access_key, shared_minio.secret_key
    async with (
        _opened(shared_minio.spec(bucket, "/team/one/"), *keys) as one,
        _opened(shared_minio.spec(bucket, "team/on"), *keys) as two,
    ):
        await one.put("a", b"1", content_type="image/png")
        await two.put("a", b"2", content_type="image/png")
        assert [key async for key in two.list("")] == ["a"]
        await two.delete(["a"])
        assert await one.get("a") == b"1"


@pytest.mark.minio
async def test_a_dead_server_is_unavailable_and_its_return_is_noticed(own_minio: "MinioServer") -> None:
    """Every call fails with advice to retry while the server is down; the same store works when it is back."""
    spec = own_minio.spec(own_minio.new_bucket())
    async with _opened(spec, own_minio.access_key, own_minio.secret_key) as store:
        await store.put("a", b"kept", content_type="image/png")
        own_minio.kill()
        for attempt in (store.get("a"), store.stat("a"), store.delete(["a"]), store.check()):
            with pytest.raises(ProblemError, match="does not answer") as caught:
                await attempt
            assert caught.value.type is ProblemType.UNAVAILABLE
            assert caught.value.retry_after_s
        await asyncio.to_thread(own_minio.start)
        assert await store.get("a") == b"kept"
        await store.check()


@pytest.mark.minio
async def test_a_server_killed_among_writes_keeps_all_it_acknowledged(own_minio: "MinioServer") -> None:
    """What `put` returned for is there after the crash; what it raised for is whole or absent."""
    spec = own_minio.spec(own_minio.new_bucket())
    async with _opened(spec, own_minio.access_key, own_minio.secret_key) as store:
        contents = {f"a/{number}": secrets.token_bytes(50_000) for number in range(300)}
        acknowledged: set[str] = set()

        async def put(key: str) -> None:
            await store.put(key, contents[key], content_type="image/png")
            acknowledged.add(key)
            if len(acknowledged) == 60:
                own_minio.kill()

        outcomes = await asyncio.gather(*(put(key) for key in contents), return_exceptions=True)
        problems = [outcome for outcome in outcomes if outcome is not None]
        assert problems
        assert all(isinstance(problem, ProblemError) for problem in problems)
        await asyncio.to_thread(own_minio.start)
        stored = {key async for key in store.list("a/")}
        assert acknowledged <= stored
        for key in stored:
            assert await store.get(key) == contents[key]


@pytest.fixture
def small_data(own_minio: "MinioServer", tmp_path: Path) -> Iterator["MinioServer"]:
    """The server's data on a file system of its own that can be filled; mounting needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    own_minio.kill()
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this sandbox does not allow mounting a tmpfs")
    own_minio.data = folder / "data"
    own_minio.data.mkdir()
    try:
        own_minio.start()
        yield own_minio
    finally:
        own_minio.kill()
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


@contextmanager
def suppress_unavailable() -> Iterator[None]:
    """Let every other problem through."""
    try:
        yield
    except ProblemError as problem:
        if problem.type is not ProblemType.UNAVAILABLE:
            raise


@pytest.mark.minio
async def test_a_full_server_is_storage_full_and_heals(small_data: "MinioServer") -> None:
    """A bucket without room says so, keeps what it has, and takes writes again after a deletion."""
    spec = small_data.spec(small_data.new_bucket())
    async with _opened(spec, small_data.access_key, small_data.secret_key) as store:
        written: list[str] = []

        async def fill() -> None:
            for number in range(100):
                # MinIO looks at its free space once a second; a disk that fills in between makes it answer
                # InternalError, which a caller may try again.
                with suppress_unavailable():
                    await store.put(
                        f"a/{number}", secrets.token_bytes(10 * 1024**2), content_type="image/png"
                    )
                    written.append(f"a/{number}")

        with pytest.raises(ProblemError) as caught:
            await fill()
        assert caught.value.type is ProblemType.STORAGE_FULL
        assert written
        assert set(written) <= {key async for key in store.list("")}
        await store.delete(written)
        await store.put("a/again", secrets.token_bytes(1024**2), content_type="image/png")


class Front:
    """A TCP front that treats its first connections badly and hands the others on."""

    def __init__(self, spec: S3Spec, broken: int, answer: bytes = b"") -> None:
        self.target, self.broken, self.answer = spec.endpoint, broken, answer
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self.tasks.add(task)
        self.connections += 1
        if self.connections > self.broken:
            await self._hand_on(reader, writer)
        elif self.answer:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
        await _close(writer)

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.partition(":")
        behind_reader, behind_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def _fronted(spec: S3Spec, broken: int, answer: bytes = b"") -> AsyncIterator[tuple[Front, S3Spec]]:
    front = Front(spec, broken, answer)
    server = await asyncio.start_server(front.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield front, spec.model_copy(update={"endpoint": f"127.0.0.1:{port}"})
    await asyncio.gather(*front.tasks, return_exceptions=True)


SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.mark.minio
async def test_broken_connections_are_tried_again(shared_minio: "MinioServer") -> None:
    """Two connections that break do not fail a write; it takes exactly the third."""
    spec = shared_minio.spec(shared_minio.new_bucket())
    async with (
        _fronted(spec, broken=2) as (front, fronted),
        _opened(fronted, shared_minio.access_key, shared_minio.secret_key) as store,
    ):
        await store.put("a", b"1", content_type="image/png")
        assert front.connections == 3
        assert await store.get("a") == b"1"


@pytest.mark.parametrize(("answer", "attempts"), [(b"", 4), (SLOW_DOWN, 4), (FORBIDDEN, 1)])
async def test_retries_are_bounded_and_only_for_what_may_pass(answer: bytes, attempts: int) -> None:
    """A server that never recovers is asked four times; one that refuses is asked once."""
    nowhere = S3Spec(endpoint="127.0.0.1:9", bucket="any-bucket", secure=False)
    async with (
        _fronted(nowhere, broken=1000, answer=answer) as (front, fronted),
        _opened(fronted, "accesskey", "secretsecret") as store,
    ):
        with pytest.raises(ProblemError) as caught:
            await store.stat("a")
        assert caught.value.type is ProblemType.UNAVAILABLE
        assert (caught.value.retry_after_s is not None) == (attempts > 1)
        assert front.connections == attempts
