"""A bucket tells of its objects: what is put is found, what goes is gone, and no event does harm, however it comes."""

import asyncio
import datetime as dt
import io
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import uvicorn
from minio import Minio
from minio.notificationconfig import NotificationConfig, QueueConfig
from tests.objectstore.conftest import MinioServer, free_port, minio_binary, shared_minio

from visualindex.catalog import INGEST, Fence, JobRecord
from visualindex.catalog.jobs import JobState
from visualindex.credentials import Credentials
from visualindex.ingesting.events import ObjectEvent, is_later, read_events
from visualindex.spec import VisualIndex
from visualindex_serving.sweeping import due, sweep_if_due

from .conftest import Served, problem, put, spec_document
from .pictures import picture
from .test_batch_ingest import counts, images, taken_in, tar
from .test_generations import finished

__all__ = ["minio_binary", "shared_minio"]  # fixtures

pytestmark = pytest.mark.minio

EVENTS = "/api/indexes/things/events"


@pytest.fixture
def bucket(shared_minio: MinioServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VISUALINDEX_INGEST_SHOP_ACCESS_KEY", shared_minio.access_key)
    monkeypatch.setenv("VISUALINDEX_INGEST_SHOP_SECRET_KEY", shared_minio.secret_key)
    return shared_minio.new_bucket()


def following(server: MinioServer, bucket: str, **events: Any) -> dict[str, Any]:
    shop = {"name": "shop", "endpoint": server.endpoint, "bucket": bucket, "secure": False}
    return spec_document(ingest={"buckets": [shop], "events": {"bucket": "shop", **events}})


def store(client: Minio, bucket: str, key: str, data: bytes) -> None:
    client.put_object(bucket, key, io.BytesIO(data), len(data))


def event(bucket: str, key: str, kind: str = "ObjectCreated:Put", sequencer: str = "") -> dict[str, Any]:
    told = {"key": key, **({"sequencer": sequencer} if sequencer else {})}
    return {"eventName": f"s3:{kind}", "s3": {"bucket": {"name": bucket}, "object": told}}


async def tell(served: Served, *records: dict[str, Any]) -> list[str]:
    """What each event came to."""
    answer = await served.client.post(EVENTS, json={"Records": list(records)})
    assert answer.status_code == 200, answer.text
    return [taken["outcome"] for taken in answer.json()["events"]]


async def test_events_may_come_twice_late_and_in_any_order(
    serve: Any, shared_minio: MinioServer, bucket: str
) -> None:
    client = shared_minio.client()
    gone = "ObjectRemoved:Delete"
    async with serve(following(shared_minio, bucket)) as served:
        store(client, bucket, "a.jpg", picture(1))
        assert await tell(served, event(bucket, "a.jpg", sequencer="16")) == ["stored"]
        assert await tell(served, event(bucket, "a.jpg", sequencer="16")) == ["stale"]
        assert await tell(served, event(bucket, "a.jpg", sequencer="17")) == ["unchanged"]
        assert await tell(served, event(bucket, "a.jpg", gone, "15")) == ["stale"]
        # A removal that was overtaken by a put: the object is there, whatever the event says.
        assert await tell(served, event(bucket, "a.jpg", gone, "18")) == ["unchanged"]
        assert set(await images(served)) == {"a.jpg"}

        store(client, bucket, "a.jpg", picture(2))
        assert await tell(served, event(bucket, "a.jpg", sequencer="19")) == ["stored"]
        client.remove_object(bucket, "a.jpg")
        assert await tell(served, event(bucket, "a.jpg", gone, "1A")) == ["removed"]
        assert await tell(served, event(bucket, "a.jpg", gone, "1A")) == ["absent"]
        # A put that comes after the removal that followed it.
        assert await tell(served, event(bucket, "a.jpg", sequencer="19")) == ["absent"]
        assert await images(served) == {}


async def test_only_pictures_of_the_bucket_below_the_prefix_count(
    serve: Any, shared_minio: MinioServer, bucket: str
) -> None:
    client = shared_minio.client()
    document = following(shared_minio, bucket, prefix="shop/", key="stem", category="folder")
    async with serve(document) as served:
        store(client, bucket, "shop/red chairs/1 a.jpg", picture(1))
        store(client, bucket, "shop/broken.jpg", b"no picture")
        assert await tell(
            served,
            event(bucket, "shop%2Fred+chairs%2F1+a.jpg"),
            event(bucket, "elsewhere/1.jpg"),
            event("another", "shop/1.jpg"),
            event(bucket, "shop/readme.txt"),
            event(bucket, "shop/broken.jpg"),
            event(bucket, "shop/1.jpg", "ObjectAccessed:Get"),
        ) == ["stored", "ignored", "ignored", "ignored", "refused"]
        assert [(key, i["category"]) for key, i in (await images(served)).items()] == [("1 a", "red chairs")]


async def test_manifests_and_archives_are_read_from_buckets(
    serve: Any, shared_minio: MinioServer, bucket: str, tmp_path: Path
) -> None:
    client = shared_minio.client()
    tar(tmp_path / "s.tar", {"0001.jpg": picture(1), "0001.json": b'{"price": 3}'})
    store(client, bucket, "lists/s.tar", (tmp_path / "s.tar").read_bytes())
    store(client, bucket, "pictures/2.jpg", picture(2))
    table = pyarrow.table({"key": ["b", "c"], "object": ["pictures/2.jpg", "gone.jpg"], "price": [4, 5]})
    pyarrow.parquet.write_table(table, tmp_path / "l.parquet")
    store(client, bucket, "lists/l.parquet", (tmp_path / "l.parquet").read_bytes())
    async with serve(following(shared_minio, bucket)) as served:
        sources = [{"location": f"s3://shop/lists/{name}"} for name in ("s.tar", "l.parquet")]
        assert counts(await taken_in(served, *sources)) == {"read": 3, "created": 2, "refused": 1}
        stored = await images(served)
        assert {key: image["metadata"] for key, image in stored.items()} == {
            "0001": {"price": 3},
            "b": {"price": 4},
        }


async def test_what_the_service_stores_in_the_same_bucket_is_not_taken_in(
    serve: Any, shared_minio: MinioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, bucket = shared_minio.client(), shared_minio.new_bucket()
    keys = Credentials("", shared_minio.access_key, shared_minio.secret_key)
    for variable, value in keys.environment().items():
        if value:
            monkeypatch.setenv(variable, value)
    own = {"endpoint": shared_minio.endpoint, "bucket": bucket, "prefix": "vi", "secure": False}
    async with serve(spec_document(storage={"s3": own}, ingest={"events": {}})) as served:
        store(client, bucket, "1.jpg", picture(1))
        assert await tell(served, event(bucket, "1.jpg")) == ["stored"]
        (image,) = (await images(served)).values()
        assert (await served.client.get(image["thumbnails"]["128"])).status_code == 200
        thumbnails = [o.object_name for o in client.list_objects(bucket, "vi/things/thumbnails", True)]
        assert len(thumbnails) == 1
        assert await tell(served, event(bucket, str(thumbnails[0]))) == ["ignored"]
        assert counts(await taken_in(served, {"location": f"s3://{bucket}/"})) == {"read": 1, "unchanged": 1}


async def test_an_image_that_came_from_elsewhere_stays_when_an_object_goes(
    serve: Any, shared_minio: MinioServer, bucket: str
) -> None:
    async with serve(following(shared_minio, bucket, key="stem")) as served:
        await put(served, 3)
        assert await tell(served, event(bucket, "k3.jpg", "ObjectRemoved:Delete")) == ["absent"]
        assert set(await images(served)) == {"k3"}


async def test_what_no_event_told_of_is_found_by_a_sweep(
    serve: Any, shared_minio: MinioServer, bucket: str
) -> None:
    client = shared_minio.client()
    async with serve(following(shared_minio, bucket, prefix="shop/")) as served:
        for seed in range(3):
            store(client, bucket, f"shop/{seed}.jpg", picture(seed))
        assert await tell(served, event(bucket, "shop/0.jpg"), event(bucket, "shop/1.jpg")) == ["stored"] * 2
        client.remove_object(bucket, "shop/1.jpg")
        sweep = {"location": "s3://shop/shop/", "remove_missing": True}
        assert counts(await taken_in(served, sweep)) == {
            "read": 2,
            "created": 1,
            "unchanged": 1,
            "removed": 1,
        }
        assert set(await images(served)) == {"0.jpg", "2.jpg"}


NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
SWEEP = {"sources": [{"location": "s3://shop/"}]}


def asked(ago: dt.timedelta, state: JobState = "done", sweep: Any = SWEEP) -> JobRecord:
    one = uuid.UUID(int=1)
    times = (NOW - ago, None, None)
    return JobRecord(one, "things", INGEST, state, sweep, "", 0, 0, None, None, 1, Fence(one, 1), *times)


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([], True),
        ([asked(dt.timedelta(minutes=59))], False),
        ([asked(dt.timedelta(minutes=60))], True),
        ([asked(dt.timedelta(days=1)), asked(dt.timedelta(minutes=1))], False),
        ([asked(dt.timedelta(days=1), "running")], False),
        ([asked(dt.timedelta(minutes=1), sweep={})], True),
        ([asked(dt.timedelta(minutes=1), "queued", sweep={})], False),
    ],
)
def test_when_a_sweep_is_due(jobs: list[JobRecord], expected: bool) -> None:
    assert due(SWEEP, 60, jobs, NOW) is expected


async def test_a_sweep_is_asked_for_once(serve: Any, shared_minio: MinioServer, bucket: str) -> None:
    store(shared_minio.client(), bucket, "shop/1.jpg", picture(1))
    document = following(shared_minio, bucket, prefix="shop/")
    async with serve(document) as served:
        catalog = served.app.state.service.catalog
        resource = VisualIndex.model_validate(document)
        await sweep_if_due(catalog, resource)
        await sweep_if_due(catalog, resource)
        (job,) = await catalog.list_jobs("things")
        ended = await finished(served, {"job_id": str(job.job_id), "state": job.state})
        assert (ended["state"], ended["result"]["created"]) == ("done", 1)
        assert set(await images(served)) == {"1.jpg"}
        await sweep_if_due(catalog, resource)
        assert len(await catalog.list_jobs("things")) == 1


async def test_events_are_refused_unless_the_spec_wants_them(serve: Any) -> None:
    async with serve(spec_document()) as served:
        answer = await served.client.post(EVENTS, json={"Records": [event("shop", "a.jpg")]})
        assert "spec.ingest.events" in problem(answer, 403, "forbidden")["detail"]


@pytest.mark.parametrize("document", [{}, {"Records": {}}, {"Records": [{}]}, {"Records": [1]}])
async def test_what_is_no_notification_is_refused(
    serve: Any, shared_minio: MinioServer, bucket: str, document: dict[str, Any]
) -> None:
    async with serve(following(shared_minio, bucket)) as served:
        problem(await served.client.post(EVENTS, json=document), 422, "invalid-request")


def test_a_bucket_may_say_that_it_was_connected() -> None:
    assert read_events({"Service": "Amazon S3", "Event": "s3:TestEvent"}) == []


def test_keys_are_decoded() -> None:
    assert read_events({"Records": [event("shop", "a%2Fb+c%C3%A9.jpg", sequencer="1")]}) == [
        ObjectEvent("created", "shop", "a/b cé.jpg", "1")
    ]


@pytest.mark.parametrize(
    ("sequencer", "than", "later"),
    [
        ("2", "1", True),
        ("1", "2", False),
        ("1", "1", False),
        ("1a", "19", True),
        ("2", "19", True),
        ("", "1", True),
    ],
)
def test_which_event_is_later(sequencer: str, than: str, later: bool) -> None:
    assert is_later(sequencer, than) is later


@asynccontextmanager
async def listening(served: Served, port: int) -> AsyncIterator[None]:
    """The gateway on a port of loopback."""
    server = uvicorn.Server(
        uvicorn.Config(served.app, port=port, lifespan="off", log_level="warning", ws="none")
    )
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(30):
            while True:
                if server.started:
                    break
                await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task


@pytest.fixture
def telling_minio(minio_binary: str, tmp_path: Path) -> Iterator[MinioServer]:
    """A server that tells a webhook of its objects; it is started by the test, which has the webhook's key."""
    data = tmp_path / "minio" / "data"
    data.mkdir(parents=True)
    server = MinioServer(minio_binary, data)
    if os.environ.get("VISUALINDEX_QUEUED"):
        server.settings["MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_VI"] = str(tmp_path / "minio" / "queue")
    yield server
    server.kill()


async def test_an_object_put_into_a_real_bucket_is_found_soon_and_gone_when_it_goes(
    serve: Any,
    telling_minio: MinioServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    minio, port = telling_minio, free_port()
    monkeypatch.setenv("VISUALINDEX_INGEST_SHOP_ACCESS_KEY", minio.access_key)
    monkeypatch.setenv("VISUALINDEX_INGEST_SHOP_SECRET_KEY", minio.secret_key)
    document = following(minio, "shop")
    document["spec"]["access"] = {"mode": "keys"}
    async with serve(document) as served, listening(served, port):
        secret, _ = await served.app.state.service.catalog.create_key(["write", "search"], name="bucket")
        served.client.headers["Authorization"] = f"Bearer {secret}"
        minio.settings |= {
            "MINIO_NOTIFY_WEBHOOK_ENABLE_VI": "on",
            "MINIO_NOTIFY_WEBHOOK_ENDPOINT_VI": f"http://127.0.0.1:{port}{EVENTS}",
            "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_VI": secret,
        }
        await asyncio.to_thread(minio.start)
        client = minio.client()
        await asyncio.to_thread(client.make_bucket, "shop")
        kinds = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        telling = NotificationConfig(
            queue_config_list=[QueueConfig(queue="arn:minio:sqs::VI:webhook", events=kinds)]
        )
        await asyncio.to_thread(client.set_bucket_notification, "shop", telling)

        loop = asyncio.get_running_loop()
        taken = []
        for seed in range(int(os.environ.get("VISUALINDEX_PUTS", "3"))):
            began = loop.time()
            await asyncio.to_thread(store, client, "shop", f"chairs/{seed}.jpg", picture(seed))
            await found_first(served, seed, f"chairs/{seed}.jpg")
            taken.append(loop.time() - began)
        (tmp_path / "put-to-found.txt").write_text(f"{sorted(taken)}")

        await asyncio.to_thread(client.remove_object, "shop", "chairs/0.jpg")
        async with asyncio.timeout(60):
            while True:
                if "chairs/0.jpg" not in await images(served):
                    break
                await asyncio.sleep(0.05)


async def found_first(served: Served, seed: int, key: str) -> None:
    async with asyncio.timeout(60):
        while True:
            form = {"consistency": "eventual", "limit": "1"}
            answer = await served.client.post(
                "/api/search", files={"image": ("q.jpg", picture(seed))}, data=form
            )
            hits = answer.json()["hits"]
            if hits and hits[0]["key"] == key and hits[0]["score"] > 0.99:
                return
            await asyncio.sleep(0.01)
