"""The corrector: faults that are planted in the database, the object store and a replica are found and mended."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visualindex.ann import Deletes
from visualindex.catalog import CHECK, LEASE_S, Catalog
from visualindex.objectstore import ObjectStore, open_store, original_key
from visualindex.spec import VisualIndex
from visualindex_jobs.check import carry_out
from visualindex_serving.shard_view import ShardView

from .conftest import NONE, Served, found_keys, put, spec_document
from .test_generations import activate, build, search


class Checking:
    """A served index whose parts can be spoiled, and checks of it."""

    def __init__(self, served: Served, catalog: Catalog, store: ObjectStore, name: str = "things") -> None:
        self.served = served
        self.catalog = catalog
        self.store = store
        self.name = name
        self.resource = VisualIndex.model_validate(spec_document(name))

    async def view(self) -> ShardView:
        """What the only replica serves."""
        replica = await self.served.shards.replica(self.name, 0)
        return replica._views[replica.generations[0]]

    async def check(self, **parameters: Any) -> dict[str, Any]:
        """The report of a check, which runs in this process."""
        asked, _ = await self.catalog.request_job(self.name, CHECK, parameters)
        job = await self.catalog.claim_job(self.name, LEASE_S)
        if job is not None:
            await carry_out(self.catalog, self.store, self.resource, job)
        async with asyncio.timeout(60):
            while (ended := await self.catalog.get_job(self.name, asked.job_id)).state in (
                "queued",
                "running",
            ):
                await asyncio.sleep(0.05)
        assert ended.state == "done", ended.problem
        return dict(ended.result or {})

    async def original(self, image_id: str) -> str:
        """The key of an image's original."""
        record = await self.catalog.get_image(self.name, uuid.UUID(image_id))
        return original_key(self.name, record.content_digest)


@pytest.fixture
async def checking(served: Served) -> AsyncIterator[Checking]:
    async for one in checking_of(served):
        yield one


async def checking_of(served: Served) -> AsyncIterator[Checking]:
    catalog = await Catalog.open(served.dsn, max_connections=2)
    resource = VisualIndex.model_validate(spec_document())
    store = open_store(resource.spec.storage, default_folder=served.state / "objects", credentials=NONE)
    try:
        yield Checking(served, catalog, store)
    finally:
        await store.close()
        await catalog.close()


def kinds(report: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """How many of each kind were found, and mended."""
    counted: dict[str, tuple[int, int]] = {}
    for one in report["findings"]:
        found, mended = counted.get(one["kind"], (0, 0))
        counted[one["kind"]] = (found + one["count"], mended + one["mended"])
    return counted


def packed(*image_ids: str) -> np.typing.NDArray[np.uint8]:
    return np.frombuffer(b"".join(uuid.UUID(one).bytes for one in image_ids), np.uint8).reshape(-1, 16)


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


async def test_a_lost_row_and_a_missing_original_are_found_and_mended(
    checking: Checking,
) -> None:
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
    assert await checking.catalog.missing_originals("things") == {record.content_digest}

    await checking.store.put(key, data, content_type="image/jpeg")
    report = await checking.check()
    assert report["consistent"] is True
    assert await checking.catalog.missing_originals("things") == set()
