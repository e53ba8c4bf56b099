"""What happens when the server crashes, is away, is full, slow, restored from a dump, or hidden behind a pooler."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from visualindex.catalog import Catalog, EmbeddedPostgres, LogTrimmed, migrate, within
from visualindex.catalog.connections import Connection, Transaction, run
from visualindex.errors import ProblemError, ProblemType

from .scene import DIMENSION, FINGERPRINT, INDEX, Shard, create_database, folder, image, number_id, truth


def kill(server: EmbeddedPostgres) -> None:
    """Kills the postmaster and its children at once, as a power cut would."""
    assert server.pid is not None
    postmaster = psutil.Process(server.pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    assert not psutil.wait_procs(family, timeout=30)[1]


async def opened(server: EmbeddedPostgres) -> Catalog:
    await migrate(server.dsn)
    catalog = await Catalog.open(server.dsn)
    await catalog.ensure_index(INDEX, FINGERPRINT, DIMENSION)
    return catalog


async def test_the_pool_heals_after_the_server_was_killed(second: EmbeddedPostgres) -> None:
    catalog = await opened(second)
    await catalog.put_images(INDEX, [image(1)])
    await asyncio.gather(*(catalog.get_image(INDEX, number_id(1)) for _ in range(12)))
    kill(second)
    with pytest.raises(ProblemError) as away, within(2.0):
        await catalog.get_image(INDEX, number_id(1))
    assert away.value.type is ProblemType.UNAVAILABLE
    assert away.value.retry_after_s is not None
    await asyncio.to_thread(second.start)
    assert (await catalog.get_image(INDEX, number_id(1))).image_id == number_id(1)
    await catalog.put_images(INDEX, [image(2)])
    await catalog.close()


async def test_reads_and_writes_survive_broken_connections_without_an_error(
    catalog: Catalog, dsn: str
) -> None:
    await catalog.put_images(INDEX, [image(1)])
    name = conninfo_to_dict(dsn)["dbname"]
    cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    for work in (
        lambda: catalog.get_image(INDEX, number_id(1)),
        lambda: catalog.put_images(INDEX, [image(2)]),
    ):
        await asyncio.gather(*(catalog.get_image(INDEX, number_id(1)) for _ in range(12)))
        async with await psycopg.AsyncConnection.connect(dsn) as killer:
            ended = await (await killer.execute(cut, (name,))).fetchall()
        assert ended
        await work()


async def test_a_reused_transaction_id_after_a_crash_hides_no_change(second: EmbeddedPostgres) -> None:
    """A transaction that ended without trace gives its id back in a crash: a position that saw it must not skip the next."""
    catalog = await opened(second)
    await catalog.put_images(INDEX, [image(1)])
    await catalog.connections.read(lambda c: run(c, "ALTER SYSTEM SET wal_writer_delay = '10s'"))
    await catalog.connections.read(lambda c: run(c, "ALTER SYSTEM SET autovacuum = off"))
    await catalog.connections.read(lambda c: run(c, "SELECT pg_reload_conf()"))
    await catalog.connections.read(lambda c: run(c, "CHECKPOINT"))
    shard = await Shard(catalog).load()
    await shard.poll()
    async with await psycopg.AsyncConnection.connect(second.dsn) as traceless:
        for _ in range(5):
            await traceless.execute("SELECT pg_current_xact_id()")
            await traceless.rollback()
    before = (await shard.poll()).position
    kill(second)
    await asyncio.to_thread(second.start)
    token = (await catalog.put_images(INDEX, [image(2)]))[0].token
    assert before.covers(token), "the crash gave no transaction id back: the test shows nothing"
    await shard.poll()
    assert number_id(2) in shard.rows
    assert shard.rows == await truth(catalog)
    await catalog.close()


async def test_a_dump_restored_into_another_server_begins_a_new_epoch(
    catalog: Catalog, dsn: str, second: EmbeddedPostgres, tmp_path: Path
) -> None:
    await catalog.put_images(INDEX, [image(number) for number in range(5)])
    shard = await Shard(catalog).load()
    await catalog.heartbeat(INDEX, 0, "r", shard.follower.position, 5)
    for number in range(30):
        await catalog.patch_image(INDEX, number_id(1), metadata={"n": number})
    token = (await catalog.put_images(INDEX, [image(5)]))[0].token
    dump = tmp_path / "dump"
    tools = second.bin
    await asyncio.to_thread(subprocess.run, [tools / "pg_dump", "-Fc", "-f", dump, dsn], check=True)
    await asyncio.to_thread(
        subprocess.run, [tools / "pg_restore", "--no-owner", "-d", second.dsn, dump], check=True
    )

    restored = await Catalog.open(second.dsn)
    assert await restored.replica_positions(INDEX) == []
    follower = Shard(restored)
    await follower.follower.resume(shard.follower.position)
    with pytest.raises(LogTrimmed, match="before a restore"):
        await follower.poll()
    with pytest.raises(LogTrimmed):
        await restored.heartbeat(INDEX, 0, "r", shard.follower.position, 5)
    await follower.load()
    assert follower.follower.position.covers(token)
    later = (await restored.put_images(INDEX, [image(6)]))[0].token
    assert not shard.follower.position.covers(later)
    assert not follower.follower.position.covers(later)
    await follower.poll()
    assert follower.follower.position.covers(later)
    assert follower.rows == await truth(restored)
    assert len(follower.rows) == 7
    await restored.close()


async def test_a_follower_notices_that_its_database_was_restored_beneath_it(
    catalog: Catalog, dsn: str
) -> None:
    await catalog.put_images(INDEX, [image(1)])
    shard = await Shard(catalog).load()
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("UPDATE meta SET value = '1/00000001/1' WHERE key = 'history'")
    with pytest.raises(LogTrimmed, match="was restored"):
        await shard.poll()
    await shard.load()
    await shard.poll()
    assert number_id(1) in shard.rows


async def test_opening_the_same_database_again_keeps_its_epoch(catalog: Catalog, dsn: str) -> None:
    before = (await catalog.put_images(INDEX, [image(1)]))[0].token
    await migrate(dsn)
    again = await Catalog.open(dsn)
    assert (await again.put_images(INDEX, [image(2)]))[0].token.epoch == before.epoch
    await again.close()


async def test_a_statement_past_the_deadline_ends_on_the_server_too(catalog: Catalog, dsn: str) -> None:
    async def sleep(connection: Connection) -> int:
        return await run(connection, "SELECT pg_sleep(60)")

    async def sleep_in(transaction: Transaction) -> int:
        return await sleep(transaction.connection)

    for call in (lambda: catalog.connections.read(sleep), lambda: catalog.connections.write(sleep_in)):
        with pytest.raises(ProblemError) as late, within(0.3):
            await call()
        assert late.value.type is ProblemType.DEADLINE_EXCEEDED
    async with await psycopg.AsyncConnection.connect(dsn) as watcher:
        running = (
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
        )
        for _ in range(100):
            (count,) = await (await watcher.execute(running)).fetchone()  # type: ignore[misc]
            if not count:
                break
            await asyncio.sleep(0.05)
        assert count == 0
    assert await catalog.get_images(INDEX, []) == {}


async def test_a_full_disk_is_a_problem_of_its_own(catalog: Catalog) -> None:
    async def full(transaction: Transaction) -> int:
        return await run(
            transaction.connection, "DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$"
        )

    with pytest.raises(ProblemError, match="no space left") as refusal:
        await catalog.connections.write(full)
    assert refusal.value.type is ProblemType.STORAGE_FULL


async def test_no_server_is_unavailable_and_not_a_hang(tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as away, within(2.0):
        await Catalog.open(make_conninfo(host=str(tmp_path), user="postgres"))
    assert away.value.type is ProblemType.UNAVAILABLE


async def test_an_exhausted_server_is_unavailable(second: EmbeddedPostgres) -> None:
    catalog = await opened(second)
    await catalog.close()
    await asyncio.to_thread(second.stop)
    configuration = second.data / "postgresql.auto.conf"
    configuration.write_text("")
    held = []
    await asyncio.to_thread(second.start)
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            held.append(await psycopg.AsyncConnection.connect(second.dsn))
    with pytest.raises(ProblemError) as away, within(3.0):
        await Catalog.open(second.dsn)
    assert away.value.type is ProblemType.UNAVAILABLE
    for connection in held:
        await connection.close()
    reopened = await Catalog.open(second.dsn)
    await reopened.close()


@pytest.fixture
def reachable() -> Iterator[Path]:
    with folder() as path:
        yield path


@pytest.fixture
def pooler(server: EmbeddedPostgres, reachable: Path) -> Iterator[str]:
    """PgBouncer in transaction mode with a single server connection, so that any session state would show."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    dsn = create_database(server)
    target = conninfo_to_dict(dsn)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (reachable / "users").write_text('"postgres" ""\n')
    (reachable / "ini").write_text(
        f"""[databases]
{target["dbname"]} = host={target["host"]} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
auth_file = {reachable}/users
pool_mode = transaction
default_pool_size = 1
"""
    )
    for path in (reachable, *reachable.iterdir()):
        path.chmod(0o755)
    user = ["-u", "pgserver"] if os.geteuid() == 0 else []
    with (reachable / "log").open("w") as log:
        process = subprocess.Popen([program, *user, str(reachable / "ini")], stderr=log)
    through = make_conninfo(host="127.0.0.1", port=port, user="postgres", dbname=str(target["dbname"]))
    for _ in range(200):
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(through, prepare_threshold=None):
            break
        assert process.poll() is None, (reachable / "log").read_text()
    yield through
    process.terminate()
    process.wait(10)


async def test_everything_works_through_a_pooler_in_transaction_mode(pooler: str) -> None:
    await migrate(pooler)
    catalog = await Catalog.open(pooler)
    await catalog.ensure_index(INDEX, FINGERPRINT, DIMENSION)
    await catalog.put_images(INDEX, [image(number) for number in range(20)])
    shard = await Shard(catalog).load()

    async def write(number: int) -> None:
        for _ in range(10):
            await catalog.put_images(INDEX, [image(number)])
            await catalog.get_image(INDEX, number_id(number))

    await asyncio.gather(*(write(number) for number in range(6)), shard.poll())
    await shard.poll()
    await catalog.heartbeat(INDEX, 0, "r", shard.follower.position, 20)
    assert await catalog.is_indexed(INDEX, number_id(1), 0)
    assert shard.rows == await truth(catalog)
    await catalog.close()
