"""What a resumed job goes on with: lists and results that come back as written, from a store that may be away."""

import uuid
from pathlib import Path

import numpy as np
import pytest

from visualindex.catalog import Encoded, Refused
from visualindex.encoders import load_encoder
from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import LocalObjectStore, done_key
from visualindex.reindexing import (
    Account,
    BatchEncoder,
    Done,
    Ledger,
    Plan,
    Recipe,
    Todo,
    hardware_of,
    measured_batch,
)
from visualindex.spec import EncoderSpec
from visualindex_jobs.reindex_here import refuse_other_hardware

from .collection import Collection, resource_of

A, B = uuid.uuid4(), uuid.uuid4()
DIGEST = bytes(range(32))


class Away(LocalObjectStore):
    """A store that is away for the first requests to read."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder)
        self.left = times

    async def get(self, key: str) -> bytes:
        if self.left:
            self.left -= 1
            raise ProblemError(ProblemType.UNAVAILABLE, "bucket shop does not answer", retry_after_s=1.0)
        return await super().get(key)


def plan_of(hardware: str) -> Plan:
    return Plan("0-1", 3, 70, 32, Recipe("encoder-a", None, 8, hardware, 1))


async def test_lists_plans_and_results_come_back_as_written(tmp_path: Path) -> None:
    ledger = Ledger(LocalObjectStore(tmp_path), "things", "job")
    todo = [Todo(A, DIGEST, encode=True, colours=False), Todo(B, DIGEST, encode=False, colours=True)]
    done = Done(
        [Encoded(A, DIGEST, b"vector", None, b"patches"), Encoded(B, DIGEST, None, b"", None)],
        [Refused(B, DIGEST, "invalid-image", "The bytes are cut off.")],
        Account(3, 1, 4096, 0.5, 0.25, 2),
    )
    await ledger.put_todo("0-1", 7, todo)
    await ledger.put_done("0-1", 7, done)
    await ledger.put_plan(plan_of("here"))
    assert await ledger.todo("0-1", 7) == todo
    assert await ledger.done("0-1", 7) == done
    assert await ledger.plan("0-1") == plan_of("here")
    assert await ledger.finished("0-1") == {7}
    assert await ledger.finished("1-1") == set()
    await ledger.erase()
    assert await ledger.finished("0-1") == set()


async def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    key = done_key("things", "job", "0-1", 7)
    await store.put(key, b"no chunk", content_type="text/plain")
    with pytest.raises(ProblemError, match=key):
        await Ledger(store, "things", "job").done("0-1", 7)


async def test_a_store_that_is_away_for_a_while_is_asked_again(tmp_path: Path) -> None:
    ledger = Ledger(Away(tmp_path, times=3), "things", "job")
    await ledger.put_plan(plan_of("here"))
    assert await ledger.plan("0-1") == plan_of("here")
    assert ledger.retries == 3


async def test_a_job_survives_an_outage_and_tells_its_retries(things: Collection) -> None:
    await things.put(*range(6))
    things.store = Away(things.root / "objects", times=4)
    job = await things.reindex()
    assert (job.state, job.problem) == ("done", None)
    assert job.result is not None
    assert (job.result["images"], job.result["quarantined"]) == (6, 0)
    assert job.result["retries"] >= 4


async def test_an_outage_beyond_the_patience_of_the_spec_ends_the_job_with_the_store_s_words(
    things: Collection,
) -> None:
    await things.put(*range(6))
    things.store = Away(things.root / "objects", times=1_000)
    job = await things.reindex(reindex={"patienceSeconds": 1})
    assert (job.state, job.problem) == ("failed", "bucket shop does not answer")


def test_a_job_does_not_go_on_where_vectors_would_differ() -> None:
    spec = resource_of().spec
    refuse_other_hardware(plan_of(hardware_of(spec.encoder)), spec)
    with pytest.raises(ProblemError, match="began on torch float16 H100") as refused:
        refuse_other_hardware(plan_of("torch float16 H100"), spec)
    assert refused.value.type is ProblemType.CONFLICT


def test_hardware_is_told_by_what_changes_bits(tmp_path: Path) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n")
    wide = hardware_of(EncoderSpec(), facts)
    facts.write_text("processor\t: 0\nflags\t\t: fpu avx2\n")
    narrow = hardware_of(EncoderSpec(), facts)
    assert wide.endswith("-avx512f")
    assert narrow.endswith("-avx2")


@pytest.mark.torch
def test_the_measured_batch_lies_within_its_bounds(cache_dir: Path) -> None:
    """How fast a machine is decides which it is; that it encodes as single calls do is for the encoder's tests."""
    torch = load_encoder(EncoderSpec(runtime="torch"), cache_dir=cache_dir)
    try:
        assert measured_batch(torch, None, 12) in (8, 12)
    finally:
        torch.close()


def test_encoders_that_take_calls_get_single_images(cache_dir: Path) -> None:
    encoder = load_encoder(EncoderSpec(), cache_dir=cache_dir, threads=2)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), np.uint8)
    assert measured_batch(encoder, None, 32) == 1
    front = BatchEncoder(encoder, None, 2)
    try:
        assert front.encode(pixels).vectors.shape == (5, 256)
        assert front.encode(pixels[:0]).vectors.shape == (0, 256)
        alone = encoder.encode(pixels[3:4]).vectors.astype("<f2")
        assert np.array_equal(front.encode(pixels).vectors[3:4], alone)
    finally:
        front.shut()
        encoder.close()
