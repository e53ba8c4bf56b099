"""Checks where a shard has several replicas and originals are in a bucket of S3."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.objectstore.conftest import MinioServer, minio_binary, shared_minio

from visualindex.ann import Deletes
from visualindex.catalog import Catalog
from visualindex.credentials import from_environment
from visualindex.generations import NodeCache
from visualindex.objectstore import open_store
from visualindex.spec import VisualIndex
from visualindex_serving.generation_files import GenerationFiles
from visualindex_serving.shard import ShardReplica

from .conftest import Served, put, spec_document
from .test_checks import Checking, held, kinds, packed, spoil, stray
from .test_gate import activated, built
from .test_generations import search

__all__ = ["minio_binary", "shared_minio"]  # fixtures

pytestmark = pytest.mark.minio


@pytest.fixture
def document(shared_minio: MinioServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An index whose objects are in a bucket."""
    monkeypatch.setenv("VISUALINDEX_S3_ACCESS_KEY", shared_minio.access_key)
    monkeypatch.setenv("VISUALINDEX_S3_SECRET_KEY", shared_minio.secret_key)
    bucket = shared_minio.new_bucket()
    s3 = {"endpoint": shared_minio.endpoint, "bucket": bucket, "secure": False}
    return spec_document(storage={"s3": s3})


@asynccontextmanager
async def checks(serve: Any, document: dict[str, Any]) -> AsyncIterator[Checking]:
    async with serve(document) as served, AsyncExitStack() as stack:
        catalog = await Catalog.open(served.dsn, max_connections=2)
        stack.push_async_callback(catalog.close)
        resource = VisualIndex.model_validate(document)
        store = open_store(
            resource.spec.storage, default_folder=Path("unused"), credentials=await from_environment()
        )
        stack.push_async_callback(store.close)
        checking = Checking(served, catalog, store)
        checking.resource = resource
        yield checking


@asynccontextmanager
async def second_replica(served: Served, checking: Checking) -> AsyncIterator[ShardReplica]:
    """Another replica of the only shard, with connections and files of its own, as in another process."""
    async with AsyncExitStack() as stack:
        catalog = await Catalog.open(served.dsn, max_connections=2)
        stack.push_async_callback(catalog.close)
        record = await catalog.get_index("things")
        assert record is not None
        files = GenerationFiles(checking.store, NodeCache(served.state / "elsewhere", 1 << 30))
        replica = ShardReplica(checking.resource, 0, catalog, files=files)
        await replica.open()
        stack.push_async_callback(replica.close)
        yield replica


async def test_the_one_replica_that_fell_behind_is_found_and_mended_and_the_other_left_alone(
    serve: Any, document: dict[str, Any]
) -> None:
    async with checks(serve, document) as checking:
        served = checking.served
        written = [await put(served, seed) for seed in range(6)]
        await search(served, written[0])
        result, _ = await built(served)
        generation = result["generation"]
        await activated(served, generation)
        async with second_replica(served, checking) as stale:
            sound = await served.shards.replica("things", 0)
            view = stale._views[generation]
            lost, old, damaged = (one["image_id"] for one in written[:3])
            view.index.apply(None, Deletes(packed(lost)))
            spoil(view, old, age=1)
            noise = np.random.default_rng(0).standard_normal((1, view.index.dimension)).astype(np.float32)
            spoil(view, damaged, vector=noise)
            strange = stray(view)

            report = await checking.check()
            assert kinds(report) == dict.fromkeys(
                ("lost-row", "stale-row", "damaged-vector", "stray-vector"), (1, 0)
            )
            assert {stale.name in one["place"] for one in report["findings"]} == {True}
            assert sound.name not in str(report["findings"])

            report = await checking.check(repair=True)
            assert (report["found"], report["mended"]) == (4, 4), report["findings"]
            assert (await checking.check())["consistent"] is True
            assert held(view, strange) is None
            other = sound._views[generation]
            for one in written:
                mended, untouched = held(view, one["image_id"]), held(other, one["image_id"])
                assert mended is not None
                assert untouched is not None
                assert (mended.versions == untouched.versions).all()
                assert (mended.codes == untouched.codes).all()


async def test_an_original_whose_bytes_changed_is_told_and_mended_by_putting_it_again(
    serve: Any, document: dict[str, Any]
) -> None:
    async with checks(serve, document) as checking:
        written = [await put(checking.served, seed) for seed in range(4)]
        key = await checking.original(written[0]["image_id"])
        data = await checking.store.get(key)
        rotten = bytes([*data[:-1], data[-1] ^ 1])
        await checking.store.put(key, rotten, content_type="image/jpeg")
        unread = await checking.check(originals_share=0)
        assert (unread["consistent"], unread["originals_read"]) == (True, 0)
        report = await checking.check(originals_share=1, repair=True)
        assert report["originals_read"] == report["originals"] == 4
        assert kinds(report) == {"damaged-original": (1, 0)}
        assert report["findings"][0]["examples"] == [written[0]["image_id"]]
        assert "put these images again" in report["findings"][0]["action"]

        again = await put(checking.served, 0)
        assert uuid.UUID(again["image_id"]) == uuid.UUID(written[0]["image_id"])
        assert (await checking.check(originals_share=1))["consistent"] is True
