"""Thumbnails: made when they are first asked for, once, without keeping searches waiting, and gone with their original."""

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import DecodePool
from visualindex.objectstore import LocalObjectStore, ObjectStat, original_key, thumbnail_key
from visualindex.spec import LimitsSpec
from visualindex_serving.admission import Admission
from visualindex_serving.erasing import erase_objects, erase_thumbnails
from visualindex_serving.index_service import IndexService
from visualindex_serving.thumbnail_making import Thumbnails

from .conftest import Served, problem, put, spec_document
from .pictures import picture
from .test_gateway_access import KEYS, key

SIZES = (128, 320, 640)


class Watched:
    """A folder of objects that counts what is done to it, and can be held or fail before a step with a kind of key."""

    def __init__(self, folder: Path) -> None:
        self.inner = LocalObjectStore(folder)
        self.counts: Counter[str] = Counter()
        self.held: str | None = None
        self.fails: str | None = None
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self._read = asyncio.Queue[str]()

    async def has_read(self, key: str) -> None:
        """Wait until somebody has looked for an object."""
        while await self._read.get() != key:
            pass

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        await self._step("put", key)
        await self.inner.put(key, data, content_type=content_type)

    async def get(self, key: str) -> bytes:
        await self._step("get", key)
        try:
            return await self.inner.get(key)
        finally:
            self._read.put_nowait(key)

    async def stat(self, key: str) -> ObjectStat | None:
        await self._step("stat", key)
        return await self.inner.stat(key)

    async def verify(self, key: str) -> ObjectStat | None:
        await self._step("verify", key)
        return await self.inner.verify(key)

    async def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        await self._step("delete", keys[0])
        await self.inner.delete(keys)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        async for found in self.inner.list(prefix):
            yield found

    async def check(self) -> None:
        await self.inner.check()

    async def close(self) -> None:
        await self.inner.close()

    async def _step(self, name: str, key: str) -> None:
        """`name` and the folder of the key, such as `put thumbnails`."""
        step = f"{name} {key.split('/')[1]}"
        self.counts[step] += 1
        if step == self.fails:
            raise ProblemError(ProblemType.STORAGE_FULL, "no room")
        if step == self.held:
            self.held = None
            self.reached.set()
            await self.go_on.wait()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Watched]:
    watched = Watched(tmp_path / "watched")
    yield watched
    await watched.close()


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    decoders = DecodePool(1, LimitsSpec(), max_queue=1)
    await decoders.start()
    yield decoders
    await decoders.close()


@pytest.fixture
def thumbnails(store: Watched, pool: DecodePool) -> Thumbnails:
    return Thumbnails("things", store, pool, at_once=1)


async def original(store: Watched, seed: int, size: tuple[int, int] = (320, 240)) -> bytes:
    """Put the picture of that seed; its digest."""
    data = picture(seed, size)
    digest = sha256(data).digest()
    await store.inner.put(original_key("things", digest), data, content_type="image/jpeg")
    return digest


async def keys(store: Any, prefix: str = "things/") -> set[str]:
    return {found async for found in store.list(prefix)}


def path(seed: int, size: int = 128) -> str:
    return f"/api/thumbnails/things/{size}/{sha256(picture(seed)).hexdigest()}.webp"


def watch(served: Served, store: Watched) -> IndexService:
    """Let the gateway keep its objects in `store`."""
    service = served.app.state.service
    index = service.indexes["things"]
    made = Thumbnails("things", store, index.thumbnails._pool, at_once=1)
    watched: IndexService = replace(index, store=store, thumbnails=made)
    service.indexes["things"] = watched
    return watched


async def sweep(served: Served, index: IndexService) -> int:
    async def erase(_: str, digest: bytes) -> None:
        await erase_objects(index, digest)

    erased: int = await served.app.state.service.catalog.sweep_erasures(erase, ["things"])
    return erased


async def test_a_write_stores_its_original_alone(served: Served) -> None:
    await put(served, 1)
    store = served.app.state.service.indexes["things"].store
    assert await keys(store) == {original_key("things", sha256(picture(1)).digest())}


async def test_a_thumbnail_is_made_when_first_asked_for_and_kept(
    store: Watched, thumbnails: Thumbnails
) -> None:
    digest = await original(store, 1, (800, 600))
    for size in SIZES:
        first = await thumbnails.get(digest, size)
        assert first is not None
        assert max(Image.open(io.BytesIO(first)).size) == size
        assert await store.inner.get(thumbnail_key("things", digest, size)) == first
        assert await thumbnails.get(digest, size) == first
    assert store.counts["put thumbnails"] == store.counts["get originals"] == len(SIZES)


async def test_callers_at_the_same_time_share_one_making(store: Watched, thumbnails: Thumbnails) -> None:
    digest = await original(store, 1)
    answers = await asyncio.gather(*(thumbnails.get(digest, 128) for _ in range(20)))
    assert len(set(answers)) == 1
    assert answers[0] is not None
    assert store.counts["get originals"] == store.counts["put thumbnails"] == 1


async def test_a_page_of_thumbnails_at_once_is_answered_whole(served: Served) -> None:
    files: list[Any] = [("images", (f"{seed}.jpg", picture(seed))) for seed in range(34)]
    batch = (await served.client.post("/api/images/batch", files=files)).json()
    assert batch["succeeded"] == 34
    asked = [path(seed, size) for seed in range(34) for size in SIZES]
    answers = await asyncio.gather(*(served.client.get(one) for one in asked))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await keys(served.app.state.service.indexes["things"].store, "things/thumbnails/")) == 102


async def test_waiting_thumbnails_take_no_place_in_the_queue_of_the_decoders(
    store: Watched, thumbnails: Thumbnails
) -> None:
    """The pool of these tests has one worker and room for one job."""
    digests = [await original(store, seed) for seed in range(12)]
    answers = await asyncio.gather(*(thumbnails.get(digest, 128) for digest in digests))
    assert None not in answers


async def test_a_caller_that_leaves_disturbs_no_other(store: Watched, thumbnails: Thumbnails) -> None:
    digest = await original(store, 1)
    store.held = "put thumbnails"
    first, second = (asyncio.create_task(thumbnails.get(digest, 128)) for _ in range(2))
    await store.reached.wait()
    first.cancel()
    await asyncio.wait([first])
    third = asyncio.create_task(thumbnails.get(digest, 128))
    store.go_on.set()
    assert await second == await third
    assert await second is not None
    assert store.counts["put thumbnails"] == 1


async def test_a_thumbnail_that_nobody_waits_for_is_not_made(store: Watched, thumbnails: Thumbnails) -> None:
    """All callers leave while it stands in line; whoever asks later gets it."""
    busy, left, after = [await original(store, seed) for seed in range(3)]
    store.held = "get originals"
    first = asyncio.create_task(thumbnails.get(busy, 128))
    await store.reached.wait()
    leaving = asyncio.create_task(thumbnails.get(left, 128))
    await store.has_read(thumbnail_key("things", left, 128))
    last = asyncio.create_task(thumbnails.get(after, 128))
    await store.has_read(thumbnail_key("things", after, 128))
    leaving.cancel()
    store.go_on.set()
    assert None not in await asyncio.gather(first, last)
    assert await keys(store, "things/thumbnails/") == {
        thumbnail_key("things", digest, 128) for digest in (busy, after)
    }
    assert await thumbnails.get(left, 128) is not None


async def test_closing_finishes_what_is_being_stored(store: Watched, thumbnails: Thumbnails) -> None:
    """And makes nothing more: who still stands in line is told."""
    stored, waiting = [await original(store, seed) for seed in range(2)]
    store.held = "get originals"
    first = asyncio.create_task(thumbnails.get(stored, 128))
    await store.reached.wait()
    second = asyncio.create_task(thumbnails.get(waiting, 128))
    await store.has_read(thumbnail_key("things", waiting, 128))
    closing = asyncio.create_task(thumbnails.close())
    await asyncio.sleep(0)
    store.go_on.set()
    await closing
    assert await first == await store.inner.get(thumbnail_key("things", stored, 128))
    with pytest.raises(ProblemError, match="stopping"):
        await second


async def test_a_full_store_costs_no_answer(
    store: Watched, thumbnails: Thumbnails, caplog: pytest.LogCaptureFixture
) -> None:
    digest = await original(store, 1)
    store.fails = "put thumbnails"
    assert await thumbnails.get(digest, 128) is not None
    assert "was not stored: no room" in caplog.text
    store.fails = None
    assert await thumbnails.get(digest, 128) is not None
    assert await keys(store, "things/thumbnails/") == {thumbnail_key("things", digest, 128)}


async def test_an_original_beyond_limits_set_since_has_no_thumbnail(
    store: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    digest = await original(store, 1)
    decoders = DecodePool(1, LimitsSpec(image_pixels=100))
    await decoders.start()
    try:
        assert await Thumbnails("things", store, decoders, at_once=1).get(digest, 128) is None
    finally:
        await decoders.close()
    assert "limits.imagePixels" in caplog.text


async def test_without_its_original_there_is_no_thumbnail(served: Served) -> None:
    problem(await served.client.get(path(1)), 404, "not-found")
    await put(served, 1)
    index = served.app.state.service.indexes["things"]
    await index.store.delete([original_key("things", sha256(picture(1)).digest())])
    problem(await served.client.get(path(1)), 404, "not-found")
    assert await keys(index.store) == set()


async def test_nothing_is_made_without_the_key_that_the_spec_asks_for(serve: Any) -> None:
    async with serve(spec_document(access={**KEYS, "thumbnails": "key"})) as served:
        files = {"image": ("p.jpg", picture(1))}
        admin = await key(served, "admin")
        assert (await served.client.post("/api/images", files=files, headers=admin)).status_code == 201
        store = served.app.state.service.indexes["things"].store
        problem(await served.client.get(path(1)), 401, "unauthenticated")
        problem(await served.client.get(path(1), headers=await key(served, "write")), 403, "forbidden")
        assert await keys(store, "things/thumbnails/") == set()
        answer = await served.client.get(path(1), headers=await key(served, "search"))
        assert (answer.status_code, answer.headers["cache-control"].split(",")[0]) == (200, "private")


@pytest.mark.parametrize("step", ["put thumbnails", "stat originals"])
async def test_a_thumbnail_made_during_the_erasure_does_not_stay(
    served: Served, store: Watched, step: str
) -> None:
    """The whole erasure passes after the maker has read the original: before it stores, and before it looks again."""
    index = watch(served, store)
    written = await put(served, 1)
    store.held = step
    getting = asyncio.create_task(served.client.get(path(1)))
    await store.reached.wait()
    await served.client.delete(f"/api/images/{written['image_id']}")
    assert await sweep(served, index) == 1
    store.go_on.set()
    problem(await getting, 404, "not-found")
    assert await keys(store) == set()


async def test_a_thumbnail_asked_for_in_the_middle_of_the_erasure_does_not_stay(
    served: Served, store: Watched
) -> None:
    """Between the original and the thumbnails: they go in this order."""
    index = watch(served, store)
    written = await put(served, 1)
    await served.client.delete(f"/api/images/{written['image_id']}")
    store.held = "delete thumbnails"
    sweeping = asyncio.create_task(sweep(served, index))
    await store.reached.wait()
    problem(await served.client.get(path(1)), 404, "not-found")
    store.go_on.set()
    assert await sweeping == 1
    assert await keys(store) == set()


async def test_what_a_killed_maker_leaves_is_erased_with_the_mark(served: Served, store: Watched) -> None:
    index = watch(served, store)
    written = await put(served, 1)
    await served.client.delete(f"/api/images/{written['image_id']}")
    assert await sweep(served, index) == 1
    digest = sha256(picture(1)).digest()
    await store.put(thumbnail_key("things", digest, 128), b"left", content_type="image/webp")

    async def erase_again(_: str, gone: bytes) -> None:
        await erase_thumbnails(index, gone)

    forget = served.app.state.service.catalog.forget_erasures
    assert await forget(erase_again, ["things"]) == 0
    assert await forget(erase_again, ["things"], keep_s=0) == 1
    assert await keys(store) == set()


async def test_an_image_written_again_has_its_thumbnails_again(served: Served, store: Watched) -> None:
    index = watch(served, store)
    written = await put(served, 1)
    first = await served.client.get(path(1))
    await served.client.delete(f"/api/images/{written['image_id']}")
    assert await sweep(served, index) == 1
    await put(served, 1)
    assert (await served.client.get(path(1))).content == first.content


async def test_waiting_thumbnails_keep_no_other_request_out() -> None:
    """They have places of their own, twice as many."""
    waiting: asyncio.Queue[str] = asyncio.Queue()
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting.put_nowait(scope["path"])
        await go_on.wait()
        await Response("done")(scope, receive, send)

    bounded = Admission(app, limit=1, max_body=9, max_search_body=9, max_bytes=9)
    transport = httpx.ASGITransport(app=bounded)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answers = []
        for one in (path(1), path(2), "/api/images"):
            answers.append(asyncio.create_task(client.get(one)))
            assert await waiting.get() == one
        problem(await client.get(path(3)), 503, "overloaded")
        problem(await client.get("/api/images"), 503, "overloaded")
        go_on.set()
        assert {(await answer).status_code for answer in answers} == {200}
