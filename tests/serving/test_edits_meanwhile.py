"""What a user changes of an image while a batch or an event is taking it in is not lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.objectstore.conftest import MinioServer, minio_binary, shared_minio

from .conftest import Served
from .pictures import picture
from .test_batch_ingest import allowing, ask, counts, images, taken_in
from .test_bucket_events import bucket, event, following, store, tell
from .test_generations import finished

__all__ = ["bucket", "minio_binary", "shared_minio"]  # fixtures

EDIT = """UPDATE images SET metadata = '{"price": 9}', category = 'sale', url = 'https://shop/9' WHERE key = %s"""
EDITED = {"metadata": {"price": 9}, "category": "sale", "url": "https://shop/9"}
DELETE = "DELETE FROM images WHERE key = %s"


@asynccontextmanager
async def held_meanwhile(served: Served, change: str, key: str) -> AsyncIterator[None]:
    """A change of the image that is begun before it is read, and committed when a write of it waits for that."""
    async with await psycopg.AsyncConnection.connect(served.dsn) as connection:
        await connection.execute(change.encode(), [key])
        yield
        blocked = "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        async with asyncio.timeout(60):
            while (await (await connection.execute(blocked)).fetchone()) == (0,):  # noqa: ASYNC110 - no event of Postgres'
                await asyncio.sleep(0.02)


def said_of(image: dict[str, Any]) -> dict[str, Any]:
    return {name: image[name] for name in EDITED}


async def retaken(served: Served, change: str, key: str, source: dict[str, Any]) -> dict[str, Any]:
    """The result of a batch that reads the image before a change of it and writes it afterwards."""
    async with held_meanwhile(served, change, key):
        job = await ask(served, source)
    ended = await finished(served, job)
    assert (ended["state"], ended["problem"]) == ("done", None)
    result: dict[str, Any] = ended["result"]
    return result


async def test_an_edit_between_the_reading_and_the_writing_of_a_batch_stays(
    serve: Any, tmp_path: Path
) -> None:
    file = tmp_path / "0.jpg"
    file.write_bytes(picture(0))
    async with serve(allowing(tmp_path)) as served:
        source = {"location": str(tmp_path)}
        await taken_in(served, source)
        file.write_bytes(picture(1))
        assert counts(await retaken(served, EDIT, "0.jpg", source)) == {"read": 1, "replaced": 1}
        assert said_of((await images(served))["0.jpg"]) == EDITED


async def test_what_a_location_itself_says_counts_and_no_more(serve: Any, tmp_path: Path) -> None:
    file = tmp_path / "beds" / "0.jpg"
    file.parent.mkdir()
    file.write_bytes(picture(0))
    async with serve(allowing(tmp_path)) as served:
        await taken_in(served, {"location": str(tmp_path)})
        source = {"location": str(tmp_path), "category": "folder"}
        assert counts(await retaken(served, EDIT, "beds/0.jpg", source)) == {"read": 1, "replaced": 1}
        assert said_of((await images(served))["beds/0.jpg"]) == {**EDITED, "category": "beds"}


async def test_an_image_that_is_deleted_before_its_fields_are_written_comes_back_whole(
    serve: Any, tmp_path: Path
) -> None:
    file = tmp_path / "beds" / "0.jpg"
    file.parent.mkdir()
    file.write_bytes(picture(0))
    async with serve(allowing(tmp_path)) as served:
        await taken_in(served, {"location": str(tmp_path)})
        source = {"location": str(tmp_path), "category": "folder"}
        assert counts(await retaken(served, DELETE, "beds/0.jpg", source)) == {"read": 1, "created": 1}
        with psycopg.connect(served.dsn) as connection:
            without = (
                "SELECT count(*) FROM images LEFT JOIN image_embeddings USING (image_id) WHERE vector IS NULL"
            )
            assert connection.execute(without).fetchone() == (0,)


@pytest.mark.minio
async def test_an_edit_between_the_reading_and_the_writing_of_an_event_stays(
    serve: Any, shared_minio: MinioServer, bucket: str
) -> None:
    client = shared_minio.client()
    async with serve(following(shared_minio, bucket)) as served:
        store(client, bucket, "a.jpg", picture(1))
        assert await tell(served, event(bucket, "a.jpg")) == ["stored"]
        store(client, bucket, "a.jpg", picture(2))
        async with held_meanwhile(served, EDIT, "a.jpg"):
            telling = asyncio.create_task(tell(served, event(bucket, "a.jpg")))
        assert await telling == ["stored"]
        assert said_of((await images(served))["a.jpg"]) == EDITED
