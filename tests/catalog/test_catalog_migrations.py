"""The schema moves forward beneath the release before, and a misfit is said clearly."""

import asyncio

import psycopg
import pytest

from visualindex.catalog import Catalog, check_revision, migrate
from visualindex.catalog.migrate import revisions
from visualindex.errors import ProblemError

from .scene import DIMENSION, FINGERPRINT, INDEX, Shard, image, number_id

WORKS_ON_REVISION_1 = 1


async def test_migrating_is_repeatable_and_may_run_twice_at_once(empty_dsn: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_dsn) for _ in range(3)))
    assert sorted(map(len, applied)) == [0, 0, len(revisions())]
    assert await migrate(empty_dsn) == []
    await check_revision(empty_dsn)


async def test_the_release_before_works_on_the_migrated_schema(empty_dsn: str) -> None:
    """What a release at revision 1 does, done before and after the later revisions are applied."""
    await migrate(empty_dsn, up_to=WORKS_ON_REVISION_1)
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as old:
        await old.execute(
            "INSERT INTO indexes (index_name, fingerprint, dimension) VALUES ('shoes', 'encoder-a', 8)"
        )
        await write_as_revision_1(old, 1)
        assert await migrate(empty_dsn)
        await write_as_revision_1(old, 2)
        (count,) = await (
            await old.execute("SELECT count(*) FROM images JOIN image_embeddings USING (image_id)")
        ).fetchone()  # type: ignore[misc]
        assert count == 2
    catalog = await Catalog.open(empty_dsn)
    await catalog.ensure_index(INDEX, FINGERPRINT, DIMENSION)
    shard = await Shard(catalog).load()
    assert set(shard.rows) == {number_id(1), number_id(2)}
    await catalog.put_images(INDEX, [image(1)])
    await catalog.close()


async def write_as_revision_1(connection: psycopg.AsyncConnection, number: int) -> None:
    values = {"id": number_id(number), "digest": bytes(32), "vector": bytes.fromhex("003c") * 8}
    async with connection.transaction():
        await connection.execute(
            """INSERT INTO images (index_name, image_id, bucket, content_digest, media_type, width, height, size_bytes)
               VALUES ('shoes', %(id)s, 7, %(digest)s, 'image/png', 1, 1, 1)""",
            values,
        )
        await connection.execute(
            """INSERT INTO image_embeddings (index_name, image_id, region, fingerprint, bucket, vector)
               VALUES ('shoes', %(id)s, 0, 'encoder-a', 7, %(vector)s)""",
            values,
        )
        await connection.execute(
            """WITH logged AS (INSERT INTO changes (index_name, bucket, image_id, kind) VALUES ('shoes', 7, %(id)s, 1)
                   RETURNING seq)
               UPDATE images SET version = logged.seq FROM logged WHERE image_id = %(id)s""",
            values,
        )
        await connection.execute(
            """INSERT INTO replicas (index_name, shard, replica, position, row_count, lease_until)
               VALUES ('shoes', 0, %(id)s, pg_current_snapshot(), 1, now()) ON CONFLICT DO NOTHING""",
            values,
        )


async def test_an_older_database_is_refused_with_what_to_do(empty_dsn: str) -> None:
    for at in (0, WORKS_ON_REVISION_1):
        if at:
            await migrate(empty_dsn, up_to=at)
        with pytest.raises(
            ProblemError, match=rf"at schema revision {at}, .*run `visualindex database migrate`"
        ):
            await check_revision(empty_dsn)
        with pytest.raises(ProblemError, match="visualindex database migrate"):
            await Catalog.open(empty_dsn)


async def test_a_newer_database_is_used_if_it_allows_that(dsn: str) -> None:
    latest = revisions()[-1].number
    record = "INSERT INTO schema_revisions (revision, name, digest, min_reader) VALUES (%s, 'later', '', %s)"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(record, (latest + 1, latest))
        await check_revision(dsn)
        await connection.execute(record, (latest + 2, latest + 1))
    with pytest.raises(
        ProblemError, match=f"needs a release that knows revision {latest + 1}; this one knows {latest}"
    ):
        await check_revision(dsn)
    with pytest.raises(ProblemError, match="run a newer release"):
        await migrate(dsn)


async def test_an_edited_revision_is_refused(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("UPDATE schema_revisions SET digest = 'other' WHERE revision = 1")
    with pytest.raises(ProblemError, match=r"schema revision 1 .* edited"):
        await migrate(dsn)
