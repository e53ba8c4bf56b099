"""The corrector: faults that are planted in the database, the object store and a replica are found and mended."""

import asyncio
import dataclasses
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from visualindex.ann import Deletes, HeldRows, Upserts, decode
from visualindex.catalog import CHECK, LEASE_S, Catalog
from visualindex.generations import list_generations, read_manifest
from visualindex.identity import content_digest
from visualindex.objectstore import (
    ObjectStore,
    manifest_key,
    open_store,
    original_key,
    part_prefix,
    thumbnail_key,
)
from visualindex.spec import VisualIndex
from visualindex.spec.models import StorageSpec
from visualindex_jobs.check import carry_out
from visualindex_serving.check_answers import CheckAnswers
from visualindex_serving.shard_view import ShardView

from .conftest import NONE, Served, found_keys, put, spec_document
from .pictures import picture
from .test_generations import activate, build, finished, search


class Checking:
    """A served index whose parts can be spoiled, and checks of it."""

    def __init__(self, served: Served, catalog: Catalog, store: ObjectStore) -> None:
        self.served = served
        self.catalog = catalog
        self.store = store
        self.resource = VisualIndex.model_validate(spec_document())

    async def view(self, generation: str = "live") -> ShardView:
        """What the only replica holds of a generation."""
        return (await self.served.shards.replica("things", 0))._views[generation]

    async def check(self, **parameters: Any) -> dict[str, Any]:
        """The report of a check."""
        asked, _ = await self.catalog.request_job("things", CHECK, parameters)
        job = await self.catalog.claim_job("things", LEASE_S)
        if job is not None:  # no gateway was faster
            await carry_out(self.catalog, self.store, self.resource, job)
        ended = asked

        async def has_ended() -> bool:
            nonlocal ended
            ended = await self.catalog.get_job("things", asked.job_id)
            return ended.state not in ("queued", "running")

        await until(has_ended)
        assert ended.state == "done", ended.problem
        return dict(ended.result or {})

    async def original(self, image_id: str) -> str:
        """The key of an image's original."""
        record = await self.catalog.get_image("things", uuid.UUID(image_id))
        return original_key("things", record.content_digest)

    async def execute(self, query: str, *values: Any) -> None:
        """Change the database behind everybody's back."""
        async with await psycopg.AsyncConnection.connect(self.served.dsn, autocommit=True) as connection:
            await connection.execute(query.encode(), values)


async def until(what: Callable[[], Any], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not await what():  # noqa: ASYNC110 - other processes know of no event
            await asyncio.sleep(0.05)


@asynccontextmanager
async def checks_of(served: Served) -> AsyncIterator[Checking]:
    catalog = await Catalog.open(served.dsn, max_connections=2)
    resource = VisualIndex.model_validate(spec_document())
    store = open_store(resource.spec.storage, default_folder=served.state / "objects", credentials=NONE)
    try:
        yield Checking(served, catalog, store)
    finally:
        await store.close()
        await catalog.close()


@pytest.fixture
async def checking(served: Served) -> AsyncIterator[Checking]:
    async with checks_of(served) as one:
        yield one


def kinds(report: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """How many of each kind were found, and mended, in one place or another."""
    counted: dict[str, tuple[int, int]] = {}
    for one in report["findings"]:
        found, mended = counted.get(one["kind"], (0, 0))
        counted[one["kind"]] = (found + one["count"], mended + one["mended"])
    return counted


def packed(*image_ids: str) -> np.typing.NDArray[np.uint8]:
    return np.frombuffer(b"".join(uuid.UUID(one).bytes for one in image_ids), np.uint8).reshape(-1, 16)


def held(view: ShardView, image_id: str) -> HeldRows | None:
    """The row of an image in a replica."""
    for rows in view.index.snapshot().held():
        for place in np.flatnonzero((rows.ids == packed(image_id)).all(axis=1)):
            some = slice(place, place + 1)
            return HeldRows(rows.ids[some], rows.versions[some], rows.buckets[some], rows.codes[some])
    return None


def spoil(view: ShardView, image_id: str, *, age: int = 0, vector: Any = None) -> None:
    """Give an image an older version, or another vector."""
    row = held(view, image_id)
    assert row is not None
    vectors = decode(row.codes) if vector is None else vector
    view.index.mend(row.ids, Upserts(row.ids, vectors, [{"key": "spoilt"}], row.versions - age))


def stray(view: ShardView) -> str:
    """Add an image that nobody put."""
    image_id = str(uuid.uuid4())
    vectors = np.ones((1, view.index.dimension), np.float32)
    view.index.apply(Upserts(packed(image_id), vectors, [{"key": "stray"}], np.array([1], np.int64)))
    return image_id


def damage(checking: Checking, key: str) -> None:
    """Flip a bit of an object, as a disk does."""
    [file] = (checking.served.state / "objects").rglob(key.rpartition("/")[2])
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)


async def test_a_check_is_asked_for_over_http_and_tells_what_it_found(served: Served) -> None:
    address = "/api/indexes/things/check"
    missing = await served.client.get(address)
    assert (missing.status_code, "never checked" in missing.json()["detail"]) == (404, True)
    written = await put(served, 0)
    await search(served, written)
    asked = await served.client.post(address, json={"repair": True})
    assert (asked.status_code, asked.json()["kind"]) == (202, "check")
    job = await finished(served, asked.json())
    assert (job["state"], job["problem"]) == ("done", None)
    told = (await served.client.get(address)).json()
    assert (told["job_id"], told["consistent"], told["repair"]) == (job["job_id"], True, True)
    assert (told["images"], told["originals"], told["replicas"]) == (1, 1, 1)


async def test_nothing_is_found_where_nothing_is_wrong(checking: Checking, tmp_path: Path) -> None:
    written = [await put(checking.served, seed) for seed in range(5)]
    await search(checking.served, written[0])
    built = await build(checking.served, tmp_path)
    await activate(checking.served, built.generation)
    await search(checking.served, await put(checking.served, 5), consistency="strong")
    report = await checking.check()
    assert (report["consistent"], report["findings"]) == (True, [])
    assert (report["images"], report["originals"], report["replicas"]) == (6, 6, 2)
    assert report["buckets_compared"] == 0
    last = await checking.catalog.last_check("things")
    assert last is not None
    assert last.report == report


async def test_a_lost_row_and_a_missing_original_are_found_and_the_row_is_mended(checking: Checking) -> None:
    lost, bare = await put(checking.served, 0), await put(checking.served, 1)
    await search(checking.served, bare, consistency="strong")
    view = await checking.view()
    view.index.apply(None, Deletes(packed(lost["image_id"])))
    assert await found_keys(checking.served, 0) == ["k1"]
    key = await checking.original(bare["image_id"])
    data = await checking.store.get(key)
    await checking.store.delete([key])

    report = await checking.check()
    assert kinds(report) == {"lost-row": (1, 0), "missing-original": (1, 0)}
    assert report["consistent"] is False
    assert report["findings"][0]["examples"] == [lost["image_id"]]
    assert report["findings"][1]["examples"] == [bare["image_id"]]
    assert await found_keys(checking.served, 0) == ["k1"]

    report = await checking.check(repair=True)
    assert kinds(report) == {"lost-row": (1, 1), "missing-original": (1, 0)}
    assert await found_keys(checking.served, 0) == ["k0", "k1"]
    record = await checking.catalog.get_image("things", uuid.UUID(bare["image_id"]))
    marked = await checking.catalog.missing_originals("things", [record.content_digest])
    assert marked == {record.content_digest}

    await checking.store.put(key, data, content_type="image/jpeg")
    report = await checking.check()
    assert report["consistent"] is True
    assert await checking.catalog.missing_originals("things", [record.content_digest]) == set()


@pytest.mark.parametrize("based", [False, True], ids=["fresh rows", "a generation"])
async def test_lost_stray_stale_and_damaged_rows_of_a_replica_are_read_again(
    checking: Checking, tmp_path: Path, based: bool
) -> None:
    ids = [(await put(checking.served, seed))["image_id"] for seed in range(4)]
    await search(checking.served, {"image_id": ids[0]}, consistency="strong")
    generation = "live"
    if based:
        generation = (await build(checking.served, tmp_path)).generation
        await activate(checking.served, generation)
    view = await checking.view(generation)
    assert view.index.fresh == (0 if based else 4)
    before = held(view, ids[3])
    lost, stale, damaged = ids[:3]
    foreign = stray(view)
    view.index.apply(None, Deletes(packed(lost)))
    spoil(view, stale, age=1)
    spoil(view, damaged, vector=np.ones((1, view.index.dimension), np.float32))

    wrong = {"lost-row": 1, "stray-vector": 1, "stale-row": 1, "damaged-vector": 1}
    report = await checking.check()
    assert kinds(report) == {kind: (count, 0) for kind, count in wrong.items()}
    examples = {one["kind"]: one["examples"] for one in report["findings"]}
    assert examples == {
        "lost-row": [lost],
        "stray-vector": [foreign],
        "stale-row": [stale],
        "damaged-vector": [damaged],
    }
    report = await checking.check(repair=True)
    assert kinds(report) == {kind: (count, count) for kind, count in wrong.items()}
    assert report["consistent"] is True
    assert (await checking.check())["findings"] == []
    assert held(view, foreign) is None
    assert len(view.index) == 4
    assert (after := held(view, ids[3])) is not None
    assert before is not None
    assert after.versions == before.versions
    assert sorted(await found_keys(checking.served, 0)) == ["k0", "k1", "k2", "k3"]


async def test_without_vectors_a_check_compares_versions_alone(checking: Checking) -> None:
    written = await put(checking.served, 0)
    await search(checking.served, written, consistency="strong")
    view = await checking.view()
    spoil(view, written["image_id"], vector=np.ones((1, view.index.dimension), np.float32))
    assert (await checking.check(vectors=False))["findings"] == []
    assert kinds(await checking.check()) == {"damaged-vector": (1, 0)}


async def test_a_missing_original_is_copied_from_an_index_that_has_the_same_file(serve: Any) -> None:
    async with serve(spec_document(), spec_document("others")) as served, checks_of(served) as checking:
        written = await put(served, 0, index="things")
        await put(served, 0, index="others")
        key = await checking.original(written["image_id"])
        data = await checking.store.get(key)
        await checking.store.delete([key])
        report = await checking.check(repair=True)
        assert kinds(report) == {"missing-original": (1, 1)}
        assert await checking.store.get(key) == data == picture(0)


async def test_an_old_original_that_no_image_has_is_erased_and_a_new_one_is_let_be(
    checking: Checking,
) -> None:
    await put(checking.served, 0)
    digest = content_digest(b"nobody's")
    orphan, thumbnail = (
        original_key("things", digest),
        thumbnail_key("things", digest, StorageSpec().thumbnail_sizes[0]),
    )
    await checking.store.put(orphan, b"nobody's", content_type="image/jpeg")
    await checking.store.put(thumbnail, b"small", content_type="image/webp")
    assert (await checking.check(repair=True))["findings"] == []
    assert kinds(await checking.check(orphan_age_s=0)) == {"orphaned-original": (1, 0)}
    assert kinds(await checking.check(repair=True, orphan_age_s=0)) == {"orphaned-original": (1, 1)}

    async def gone() -> bool:
        return await checking.store.stat(orphan) is None and await checking.store.stat(thumbnail) is None

    await until(gone)
    assert (await checking.check(orphan_age_s=0))["findings"] == []


async def test_an_image_without_a_vector_is_told_and_found_again_once_a_job_encoded_it(
    checking: Checking,
) -> None:
    bare, other = await put(checking.served, 0), await put(checking.served, 1)
    await search(checking.served, other, consistency="strong")
    await checking.execute("DELETE FROM image_embeddings WHERE image_id = %s", bare["image_id"])
    report = await checking.check()
    assert kinds(report) == {"missing-vector": (1, 0), "stray-vector": (1, 0)}
    assert "check again with repair" in report["findings"][0]["action"]
    assert kinds(await checking.check(repair=True))["missing-vector"] == (1, 0)
    consistent = False
    async with asyncio.timeout(60):
        while not consistent:
            consistent = (await checking.check())["consistent"]
    assert "k0" in await found_keys(checking.served, 0)


async def test_a_manifest_that_is_missing_is_written_again_from_the_database(
    checking: Checking, tmp_path: Path
) -> None:
    await search(checking.served, await put(checking.served, 0))
    generation = (await build(checking.served, tmp_path)).generation
    key = manifest_key("things", generation)
    await checking.store.delete([key])
    assert kinds(await checking.check()) == {"missing-manifest": (1, 0)}
    assert kinds(await checking.check(repair=True)) == {"missing-manifest": (1, 1)}
    await activate(checking.served, generation)
    assert (await checking.check())["findings"] == []


async def test_what_is_served_without_all_its_parts_gets_a_successor_and_searches_go_on(
    checking: Checking, tmp_path: Path
) -> None:
    written = await put(checking.served, 0)
    await search(checking.served, written)
    generation = (await build(checking.served, tmp_path)).generation
    await activate(checking.served, generation)
    later = await put(checking.served, 1)
    await search(checking.served, later, consistency="strong")
    parts = [key async for key in checking.store.list(part_prefix("things"))]
    await checking.store.delete(parts[:1])
    report = await checking.check(repair=True)
    assert kinds(report) == {"missing-part": (1, 0)}
    assert report["findings"][0]["examples"] == parts[:1]

    async def served_by_another() -> bool:
        found = await search(checking.served, written)
        assert len(found["hits"]) == 2
        return bool(found["generation"] != generation)

    await until(served_by_another)


async def test_a_generation_without_all_its_parts_that_nobody_is_served_is_discarded(
    checking: Checking, tmp_path: Path
) -> None:
    await search(checking.served, await put(checking.served, 0))
    generation = (await build(checking.served, tmp_path)).generation
    parts = [key async for key in checking.store.list(part_prefix("things"))]
    await checking.store.delete(parts[:2])
    assert kinds(await checking.check(repair=True)) == {"missing-part": (2, 2)}
    assert (await checking.catalog.get_generation("things", generation)).state in ("retired", "gone")


async def test_what_is_served_with_a_damaged_part_gets_a_successor_that_has_the_part_whole(
    checking: Checking, tmp_path: Path
) -> None:
    written = await put(checking.served, 0)
    await search(checking.served, written)
    generation = (await build(checking.served, tmp_path)).generation
    await activate(checking.served, generation)
    parts = {key async for key in checking.store.list(part_prefix("things"))}
    damage(checking, min(parts))
    assert (await checking.check(originals_share=0))["consistent"] is True
    report = await checking.check(originals_share=1, repair=True)
    assert kinds(report) == {"damaged-part": (1, 0)}
    assert report["findings"][0]["examples"] == [min(parts)]

    async def served_by_another() -> bool:
        return bool((await search(checking.served, written))["generation"] != generation)

    await until(served_by_another)
    assert (await checking.check(originals_share=1))["consistent"] is True
    for key in parts:
        assert await checking.store.get(key)


async def test_damaged_and_missing_parts_of_what_nobody_is_served_are_told_and_it_is_discarded(
    checking: Checking, tmp_path: Path
) -> None:
    await search(checking.served, await put(checking.served, 0))
    generation = (await build(checking.served, tmp_path)).generation
    missing, damaged, *_ = [key async for key in checking.store.list(part_prefix("things"))]
    damage(checking, damaged)
    await checking.store.delete([missing])
    report = await checking.check(originals_share=1, repair=True)
    assert kinds(report) == {"missing-part": (1, 1), "damaged-part": (1, 1)}
    assert (await checking.catalog.get_generation("things", generation)).state in ("retired", "gone")


async def abandon(checking: Checking, generation: str) -> str:
    """Publish what was published as another generation, two days ago, and propose it to nobody."""
    known = await read_manifest(checking.store, "things", generation)
    manifest = dataclasses.replace(known, watermark="1:1:1:")
    await checking.store.put(
        manifest_key("things", manifest.generation), manifest.to_json(), content_type="application/json"
    )
    [file] = (checking.served.state / "objects").rglob(f"{manifest.generation}.json")
    then = time.time() - 2 * 86_400
    os.utime(file, (then, then))
    return manifest.generation


async def test_a_generation_that_was_never_proposed_is_told_and_deleted(
    checking: Checking, tmp_path: Path
) -> None:
    await search(checking.served, await put(checking.served, 0))
    known = (await build(checking.served, tmp_path)).generation
    abandoned = await abandon(checking, known)
    report = await checking.check()
    assert kinds(report) == {"abandoned-generation": (1, 0)}
    assert report["findings"][0]["examples"] == [abandoned]
    assert kinds(await checking.check(repair=True)) == {"abandoned-generation": (1, 1)}
    assert await list_generations(checking.store, "things") == [known]
    assert (await checking.check(originals_share=1))["findings"] == []


async def test_gateways_delete_a_generation_that_was_never_proposed_by_themselves(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visualindex_serving.maintenance._ABANDONED_PERIOD_S", 0.1)
    async with serve(spec_document()) as served, checks_of(served) as checking:
        await search(served, await put(served, 0))
        known = (await build(served, tmp_path)).generation
        await abandon(checking, known)

        async def gone() -> bool:
            return await list_generations(checking.store, "things") == [known]

        await until(gone)


async def test_a_damaged_original_in_a_folder_is_told_and_mended_by_putting_it_again(
    checking: Checking,
) -> None:
    written = await put(checking.served, 0)
    damage(checking, await checking.original(written["image_id"]))
    assert kinds(await checking.check(originals_share=1)) == {"damaged-original": (1, 0)}
    await put(checking.served, 0)
    assert (await checking.check(originals_share=1))["consistent"] is True


async def test_writes_that_go_on_are_no_faults_and_none_is_undone(checking: Checking) -> None:
    """Twelve images are created, changed and deleted all the time, while one row is lost."""
    lost = await put(checking.served, 0)
    await search(checking.served, lost, consistency="strong")
    view = await checking.view()
    view.index.apply(None, Deletes(packed(lost["image_id"])))
    stop = asyncio.Event()
    client = checking.served.client

    async def writes(first: int) -> None:
        while not stop.is_set():
            for seed in range(first, first + 3):
                written = await put(checking.served, seed)
                address = f"/api/images/{written['image_id']}"
                assert (await client.patch(address, json={"metadata": {"n": time.time()}})).is_success
                if seed % 2:
                    assert (await client.delete(address)).is_success

    async with asyncio.TaskGroup() as group:
        for first in (10, 20, 30, 40):
            group.create_task(writes(first))
        reports = [await checking.check(repair=True) for _ in range(3)]
        stop.set()
    assert [kinds(report) for report in reports] == [{"lost-row": (1, 1)}, {}, {}]
    await search(checking.served, lost, consistency="strong")
    assert (await checking.check())["findings"] == []
    assert len(view.index) == await checking.catalog.count_images("things")


async def test_a_replica_that_ends_before_it_answers_is_told(checking: Checking) -> None:
    written = await put(checking.served, 0)
    await search(checking.served, written, consistency="strong")
    position = (await checking.view()).position
    beat = checking.catalog.heartbeat("things", 0, "mute", position, 1, 3.0, shards=1, generations=["live"])
    await beat
    report = await checking.check()
    assert kinds(report) == {"no-answer": (1, 0)}
    assert "replica mute" in report["findings"][0]["place"]


async def test_a_replica_that_unloads_a_generation_before_it_answers_is_no_fault(checking: Checking) -> None:
    written = await put(checking.served, 0)
    await search(checking.served, written, consistency="strong")
    position = (await checking.view()).position
    await checking.catalog.heartbeat(
        "things", 0, "leaving", position, 1, 60.0, shards=1, generations=["live"]
    )
    answering = asyncio.create_task(CheckAnswers(checking.catalog, "things", "leaving", views={}).run())
    try:
        assert (await checking.check())["findings"] == []
    finally:
        answering.cancel()


async def test_a_check_that_is_cancelled_leaves_the_last_report_and_no_questions(checking: Checking) -> None:
    written = await put(checking.served, 0)
    await search(checking.served, written, consistency="strong")
    before = await checking.check()
    position = (await checking.view()).position
    await checking.catalog.heartbeat("things", 0, "mute", position, 1, 60.0, shards=1, generations=["live"])
    asked, _ = await checking.catalog.request_job("things", CHECK, {})

    async def waits() -> bool:
        job = await checking.catalog.get_job("things", asked.job_id)
        return "waiting" in job.phase

    await until(waits)
    await checking.catalog.cancel_job("things", asked.job_id)

    async def forgotten() -> bool:
        return not await checking.catalog.take_questions("things", "mute")

    await until(forgotten)
    last = await checking.catalog.last_check("things")
    assert last is not None
    assert last.report == before
