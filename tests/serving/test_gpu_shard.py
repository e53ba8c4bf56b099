"""A shard replica that was given a GPU."""

import logging
from pathlib import Path

import pytest
from tests.ann.gpu_stand_in import GpuBuild

from visualindex.ann.families.gpu import GpuIvfSq8
from visualindex.catalog import EmbeddedPostgres
from visualindex.generations import NodeCache
from visualindex.spec import VisualIndex
from visualindex_serving.generation_files import GenerationFiles
from visualindex_serving.shard import ShardReplica
from visualindex_serving.shard_deployment import has_gpu

from .conftest import spec_document
from .generated import found, generated, image_id


async def test_it_searches_generations_there(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = GpuBuild(monkeypatch)
    async with generated(postgres, tmp_path, family="ivf-sq8", flatBelow=50, numGpus=1) as things:
        await things.put(range(200))
        generation = await things.activated()
        assert there.copies == []
        files = GenerationFiles(things.store, NodeCache(tmp_path / "generations", 1 << 30), gpu=True)
        replica = ShardReplica(things.resource, 0, things.catalog, files=files)
        await replica.open()
        try:
            (base,) = replica._views[generation]._index._state.bases
            assert isinstance(base.segment.ann, GpuIvfSq8)
            del base
            assert await found(replica, 7) == [image_id(7)]
            (copy,) = there.copies
            assert copy.searches > 0
        finally:
            await replica.close()


def test_a_gpu_that_faiss_has_no_use_for_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without, given = (
        VisualIndex.model_validate(spec_document(index={"family": "ivf-sq8", "numGpus": gpus}))
        for gpus in (0, 0.5)
    )
    with caplog.at_level(logging.WARNING):
        assert not has_gpu(without)
        assert caplog.messages == []
        assert has_gpu(given)
    (message,) = caplog.messages
    assert "faiss-gpu in place of faiss-cpu" in message
    caplog.clear()
    GpuBuild(monkeypatch)
    assert has_gpu(given)
    assert caplog.messages == []
