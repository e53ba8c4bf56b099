"""`visualindex database`: the jobs around a service's database, as a Job runs them: exit codes and lines."""

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.catalog.scene import folder, serving
from tests.objectstore.conftest import MinioServer, minio_binary, shared_minio

from visualindex.catalog import Catalog, EmbeddedPostgres, ImageWrite, migrate, reach
from visualindex.catalog.migrate import revisions
from visualindex.identity import content_digest
from visualindex.objectstore import LocalObjectStore, ObjectStore, original_key
from visualindex.objectstore.s3 import S3ObjectStore

__all__ = ["minio_binary", "shared_minio"]  # fixtures

T = TypeVar("T")
FINGERPRINT = "encoder-a"
KEY = "vi_" + "k" * 43


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with folder() as state, serving(EmbeddedPostgres(state)) as embedded:
        yield embedded


@pytest.fixture
def empty(server: EmbeddedPostgres) -> Iterator[str]:
    """A database without our schema."""
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield make_conninfo(server.dsn, dbname=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def dsn(empty: str) -> str:
    asyncio.run(migrate(empty))
    return empty


def database(dsn: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `visualindex database` in a process of its own."""
    command = [sys.executable, "-c", "from visualindex.cli import main; main()", "database", *arguments]
    variables = {**os.environ, "NO_COLOR": "1", "VISUALINDEX_POSTGRES_DSN": dsn, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


def in_catalog(dsn: str, work: Callable[[Catalog], Awaitable[T]]) -> T:
    async def run() -> T:
        catalog = await Catalog.open(dsn, max_connections=1)
        try:
            return await work(catalog)
        finally:
            await catalog.close()

    return asyncio.run(run())


def assert_one_line(result: subprocess.CompletedProcess[str], *says: str) -> None:
    """Exit code 1 and one line that names cause and remedy."""
    assert (result.returncode, result.stdout) == (1, ""), result
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for part in says:
        assert part in line


# migrate


def test_migrate_brings_the_schema_up_once(empty: str) -> None:
    first = database(empty, "migrate")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines() == [f"applied {revision.name}" for revision in revisions()]
    second = database("", "migrate", "--dsn", empty)
    assert (second.returncode, second.stdout) == (0, "up to date\n")


def test_migrate_says_why_it_cannot(empty: str) -> None:
    assert_one_line(database("", "migrate"), "VISUALINDEX_POSTGRES_DSN", "--dsn")
    nobody = "postgresql://user:hidden@127.0.0.1:1/db"
    unreachable = database(nobody, "migrate", "--wait", "0.5")
    assert_one_line(unreachable, "does not answer within 0.5 s", "refused", "check that it runs")
    assert "hidden" not in unreachable.stderr
    missing = make_conninfo(empty, dbname="missing")
    assert_one_line(database(missing, "migrate"), 'database "missing" does not exist', "check user")


def test_an_old_release_says_that_the_schema_is_newer(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO schema_revisions VALUES (900, 'later', '', 900)")
    assert_one_line(
        database(dsn, "migrate"), "needs a release that knows revision 900", "run a newer release"
    )


# keys


def test_keys_become_those_of_the_directory(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "web").write_text(KEY)
    arguments = ("keys", "--index", "shop", "--from", str(tmp_path))
    assert database(dsn, *arguments).stdout == "added web\n"
    assert database(dsn, *arguments).stdout == "up to date: 1 keys\n"
    (tmp_path / "web").write_text(json.dumps({"key": KEY, "scopes": ["write"]}))
    assert database(dsn, *arguments).stdout == "updated web\n"
    (tmp_path / "web").unlink()
    result = database(dsn, *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (0, "revoked web\n", "")
    assert in_catalog(dsn, lambda catalog: catalog.authenticate(KEY)) is None


def test_a_wrong_key_file_changes_nothing(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "good").write_text(KEY)
    (tmp_path / "bad").write_text("password")
    result = database(dsn, "keys", "-i", "shop", "--from", str(tmp_path))
    assert_one_line(result, str(tmp_path / "bad"), "openssl rand")
    assert in_catalog(dsn, lambda catalog: catalog.list_keys()) == []


def test_keys_are_for_names_that_an_index_can_have(dsn: str, tmp_path: Path) -> None:
    result = database(dsn, "keys", "-i", "Not/a name", "--from", str(tmp_path))
    assert_one_line(result, "'Not/a name' is no name of an index")


def test_keys_need_the_schema(empty: str, tmp_path: Path) -> None:
    result = database(empty, "keys", "-i", "shop", "--from", str(tmp_path))
    assert_one_line(result, "run `visualindex database migrate`")


# erase


async def add_picture(catalog: Catalog, store: ObjectStore, index: str) -> None:
    digest = content_digest(index.encode())
    await catalog.ensure_index(index, FINGERPRINT, 2)
    write = ImageWrite(
        image_id=uuid.uuid4(),
        content_digest=digest,
        media_type="image/png",
        width=1,
        height=1,
        size_bytes=1,
        embeddings={},
    )
    await catalog.put_images(index, [write])
    await store.put(original_key(index, digest), b"x", content_type="image/png")


async def left(catalog: Catalog, store: ObjectStore) -> tuple[list[str], list[str]]:
    """The indexes that have objects, and those that the catalog knows."""
    objects = sorted({key.split("/")[0] async for key in store.list("")})
    return objects, [index.name for index in await catalog.list_indexes()]


@pytest.fixture
def store(tmp_path: Path) -> Callable[[], ObjectStore]:
    return lambda: LocalObjectStore(tmp_path / "objects")


def storage(tmp_path: Path) -> str:
    return json.dumps({"folder": str(tmp_path / "objects")})


def with_store(
    dsn: str,
    opened: Callable[[], ObjectStore],
    work: Callable[[Catalog, ObjectStore], Awaitable[T]],
) -> T:
    async def run(catalog: Catalog) -> T:
        store = opened()
        try:
            return await work(catalog, store)
        finally:
            await store.close()

    return in_catalog(dsn, run)


async def add_both(catalog: Catalog, store: ObjectStore) -> None:
    for index in ("shop", "shop-2"):
        await add_picture(catalog, store, index)


def test_erase_takes_one_index_and_may_be_repeated(
    dsn: str, store: Callable[[], ObjectStore], tmp_path: Path
) -> None:
    with_store(dsn, store, add_both)
    arguments = ("erase", "--index", "shop", "--yes", "--storage-json", storage(tmp_path))
    result = database(dsn, *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "deleted 1 objects"
    assert {"deleted 1 images", "deleted 1 changes", "deleted 1 indexes"} < set(lines)
    assert lines[-1] == "index shop is erased"
    assert with_store(dsn, store, left) == (["shop-2"], ["shop-2"])
    again = database(dsn, *arguments)
    assert (again.returncode, again.stdout) == (0, "index shop is erased\n")
    assert with_store(dsn, store, left) == (["shop-2"], ["shop-2"])


def test_erase_says_what_is_left_when_time_is_up(
    dsn: str, store: Callable[[], ObjectStore], tmp_path: Path
) -> None:
    with_store(dsn, store, add_both)
    arguments = ("erase", "-i", "shop", "--yes", "--storage-json", storage(tmp_path))
    result = database(dsn, *arguments, "--within", "0")
    assert result.returncode == 4
    last = (
        "time is up, left of index shop: objects under shop/, 1 changes, 1 images, 1 indexes; run this again"
    )
    assert result.stdout.splitlines()[-1] == last
    assert with_store(dsn, store, left) == (["shop", "shop-2"], ["shop", "shop-2"])


def test_erase_refuses_an_index_that_is_served(
    dsn: str, store: Callable[[], ObjectStore], tmp_path: Path
) -> None:
    with_store(dsn, store, add_both)
    with psycopg.connect(dsn) as connection:
        connection.execute(
            """INSERT INTO replicas (index_name, shard, replica, position, row_count, lease_until)
               VALUES ('shop', 0, 'r', pg_current_snapshot(), 1, now() + interval '1 hour')"""
        )
    for_ = ("--yes", "--storage-json", storage(tmp_path))
    assert_one_line(database(dsn, "erase", "-i", "shop", *for_), "being served: 1 live", "--force")
    assert with_store(dsn, store, left) == (["shop", "shop-2"], ["shop", "shop-2"])
    assert database(dsn, "erase", "-i", "shop-2", *for_).returncode == 0
    assert database(dsn, "erase", "-i", "shop", *for_, "--force").returncode == 0
    assert with_store(dsn, store, left) == ([], [])


def test_erase_takes_the_storage_of_a_spec_file(
    dsn: str, store: Callable[[], ObjectStore], tmp_path: Path
) -> None:
    with_store(dsn, store, add_both)
    spec = tmp_path / "shop.yaml"
    head = "apiVersion: visualindex.dev/v1alpha1\nkind: VisualIndex\n"
    spec.write_text(f"{head}metadata: {{name: shop}}\nspec: {{storage: {storage(tmp_path)}}}\n")
    assert_one_line(
        database(dsn, "erase", "-i", "shop-2", "--yes", "--spec", str(spec)), "no index shop-2 (but shop)"
    )
    assert database(dsn, "erase", "-i", "shop", "--yes", "--spec", str(spec)).returncode == 0
    assert with_store(dsn, store, left) == (["shop-2"], ["shop-2"])


def test_erase_asks_for_what_it_needs(dsn: str, tmp_path: Path) -> None:
    given = ("--storage-json", storage(tmp_path))
    assert_one_line(database(dsn, "erase", "-i", "shop", *given), "for good", "--yes")
    assert_one_line(database(dsn, "erase", "-i", "shop", "--yes"), "--spec", "--storage-json")
    assert_one_line(database(dsn, "erase", "-i", "shop/", "--yes", *given), "'shop/' is no name of an index")
    wrong = ("--storage-json", '{"foldr": "/x"}')
    assert_one_line(database(dsn, "erase", "-i", "shop", "--yes", *wrong), "--storage-json: foldr", "folder")
    bucket = ("--storage-json", '{"s3": {"endpoint": "127.0.0.1:1", "bucket": "b"}}')
    bare = {"VISUALINDEX_S3_ACCESS_KEY": "", "VISUALINDEX_S3_SECRET_KEY": ""}
    assert_one_line(
        database(dsn, "erase", "-i", "shop", "--yes", *bucket, **bare), "VISUALINDEX_S3_ACCESS_KEY"
    )


def test_erase_on_a_database_that_was_never_used_deletes_the_objects(
    empty: str, store: Callable[[], ObjectStore], tmp_path: Path
) -> None:
    result = database(empty, "erase", "-i", "shop", "--yes", "--storage-json", storage(tmp_path))
    assert (result.returncode, result.stdout) == (0, "index shop is erased\n")


@pytest.mark.minio
def test_erase_empties_the_indexs_part_of_a_bucket(dsn: str, shared_minio: MinioServer) -> None:
    spec = shared_minio.spec(shared_minio.new_bucket(), "some/prefix")
    credentials = (shared_minio.access_key, shared_minio.secret_key)

    def store() -> ObjectStore:
        return S3ObjectStore(spec, *credentials)

    with_store(dsn, store, add_both)
    document = json.dumps({"s3": spec.model_dump(mode="json", by_alias=True)})
    arguments = ("erase", "-i", "shop", "--yes", "--storage-json", document)
    names = ("VISUALINDEX_S3_ACCESS_KEY", "VISUALINDEX_S3_SECRET_KEY")
    result = database(dsn, *arguments, **dict(zip(names, credentials, strict=True)))
    assert result.returncode == 0, result.stderr
    assert with_store(dsn, store, left) == (["shop-2"], ["shop-2"])


# serve


def test_serve_runs_until_it_is_told_to_stop() -> None:
    with folder() as state:
        assert_it_serves_until_told(state)


def assert_it_serves_until_told(state: Path) -> None:
    password = secrets.token_urlsafe(12)
    (state / "password").write_text(password + "\n")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    dsn = f"postgresql://visualindex:{password}@127.0.0.1:{port}/visualindex"
    arguments = ("--data", str(state / "data"), "--password-file", str(state / "password"))
    command = [sys.executable, "-c", "from visualindex.cli import main; main()", "database", "serve"]
    with subprocess.Popen(
        [*command, *arguments, "--listen", "127.0.0.1", "--port", port],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            asyncio.run(reach(dsn, wait_s=120))
            assert database(dsn, "migrate").returncode == 0
            taken = database("", "serve", *arguments, "--port", port)
            assert taken.returncode == 1
            assert "is in use" in taken.stderr
        finally:
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"on 127.0.0.1, port {port}" in out
    assert "not for production" in err
    assert EmbeddedPostgres(state / "data").pid is None


def test_serve_needs_a_password(tmp_path: Path) -> None:
    missing = database("", "serve", "--data", str(tmp_path), "--password-file", str(tmp_path / "none"))
    assert_one_line(missing, "password file", "cannot be read")
    (tmp_path / "empty").write_text("\n")
    empty = database("", "serve", "--data", str(tmp_path), "--password-file", str(tmp_path / "empty"))
    assert_one_line(empty, "is empty")


def test_serve_says_that_it_is_for_trials() -> None:
    assert "NOT FOR PRODUCTION" in database("", "serve", "--help").stdout
