"""The reranker reads a candidate's patches once and forgets what nobody waits for."""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.packed import write_packed
from visualindex.rerank.patches import Packed
from visualindex.rerank.segment_patches import SegmentPatches
from visualindex_serving.rerank_messages import RerankQuery
from visualindex_serving.rerank_source import Folded, SideTable
from visualindex_serving.reranker import MAX_QUEUED, Reranker

FEATURES = "patches-a"


def row(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(1, 6, 64))
    unit /= np.linalg.norm(unit, axis=2, keepdims=True)
    return Packed(np.rint(unit * 127).astype(np.int8), np.full(1, 1 / 127, np.float16)).row_bytes(0)


class Table:
    """A table of patches that counts what is read of it."""

    def __init__(self, count: int) -> None:
        self.rows = {uuid.UUID(int=n): row(n) for n in range(count)}
        self.reads: list[list[int]] = []
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, images: Sequence[uuid.UUID], features: str) -> Mapping[uuid.UUID, bytes]:
        self.reads.append([i.int for i in images])
        self.reached.set()
        await self.gate.wait()
        return {i: self.rows[i] for i in images if i in self.rows and features == FEATURES}


def query(candidates: Sequence[int], like: int, *, seconds: float = 30, version: int = 1) -> RerankQuery:
    ids = np.frombuffer(b"".join(uuid.UUID(int=n).bytes for n in candidates), np.uint8).reshape(-1, 16)
    scores = np.linspace(0.9, 0.8, len(candidates), dtype=np.float32)
    versions = np.full(len(candidates), version, np.int64)
    return RerankQuery(FEATURES, row(like), None, ids, scores, versions, None, time.time() + seconds)


async def test_the_candidate_that_has_the_querys_patches_comes_first() -> None:
    reranker = Reranker(SideTable(Table(20).read, 1 << 20))
    answer = await reranker.rerank(query(range(20), like=13))
    assert answer.order[0] == 13
    assert (np.diff(answer.scores) <= 0).all()
    assert answer.known == 20
    reranker.close()


async def test_candidates_without_patches_take_part_by_their_score() -> None:
    reranker = Reranker(SideTable(Table(5).read, 1 << 20))
    answer = await reranker.rerank(query([9, 8, 3, 7], like=3))
    assert answer.known == 1
    assert sorted(answer.order.tolist()) == [0, 1, 2, 3]
    nobody = await reranker.rerank(query([9, 8, 7], like=3))
    assert (nobody.known, nobody.order.tolist()) == (0, [0, 1, 2])
    reranker.close()


async def test_patches_are_read_once_until_their_image_changes() -> None:
    table = Table(6)
    reranker = Reranker(SideTable(table.read, 1 << 20))
    for version in (1, 1, 2):
        await reranker.rerank(query([0, 1, 9], like=1, version=version))
    await reranker.rerank(query([1, 2], like=1, version=2))
    assert table.reads == [[0, 1, 9], [0, 1, 9], [2]]
    reranker.close()


async def test_memory_is_bounded_and_the_last_used_stay() -> None:
    table = Table(10)
    source = SideTable(table.read, 3 * (len(row(0)) + 300))
    for number in (0, 1, 2, 0, 3):
        await source.of({uuid.UUID(int=number): 1}, FEATURES)
    table.reads.clear()
    await source.of({uuid.UUID(int=0): 1, uuid.UUID(int=3): 1}, FEATURES)
    assert table.reads == []
    await source.of({uuid.UUID(int=1): 1}, FEATURES)
    assert table.reads == [[1]]


async def test_searches_that_wait_share_one_reading() -> None:
    table = Table(8)
    table.gate.clear()
    reranker = Reranker(SideTable(table.read, 1 << 20))
    asking = [asyncio.create_task(reranker.rerank(query([n, 7], like=n))) for n in range(5)]
    await table.reached.wait()
    table.gate.set()
    assert [answer.order[0] for answer in await asyncio.gather(*asking)] == [0] * 5
    assert len(table.reads) <= 2
    reranker.close()


async def test_a_search_past_its_deadline_costs_no_scoring_and_too_many_are_refused() -> None:
    table = Table(3)
    table.gate.clear()
    reranker = Reranker(SideTable(table.read, 1 << 20))
    first = asyncio.create_task(reranker.rerank(query([0], like=0)))
    await table.reached.wait()
    with pytest.raises(ProblemError) as late:
        await reranker.rerank(query([1], like=1, seconds=0.01))
    assert late.value.type is ProblemType.DEADLINE_EXCEEDED
    waiting = [asyncio.create_task(reranker.rerank(query([2], like=2))) for _ in range(MAX_QUEUED)]
    await asyncio.sleep(0)
    with pytest.raises(ProblemError) as refused:
        await reranker.rerank(query([2], like=2))
    assert refused.value.type is ProblemType.OVERLOADED
    table.gate.set()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [1] not in table.reads
    reranker.close()


async def test_a_failed_reading_fails_its_searches_and_no_later_one() -> None:
    class Broken(Table):
        async def read(self, images: Sequence[uuid.UUID], features: str) -> Mapping[uuid.UUID, bytes]:
            if not self.reads:
                self.reads.append([])
                raise ConnectionError("gone")
            return await super().read(images, features)

    reranker = Reranker(SideTable(Broken(3).read, 1 << 20))
    with pytest.raises(ProblemError, match="Reranking failed: ConnectionError"):
        await reranker.rerank(query([0, 1], like=1))
    assert (await reranker.rerank(query([0, 1], like=1))).order[0] == 1
    reranker.close()


def segment(folder: Path, images: dict[int, tuple[int, int]]) -> SegmentPatches:
    """A segment of images, number to version and seed of the patches; rows in no order."""
    numbers = sorted(images, reverse=True)
    ids = [uuid.UUID(int=n).bytes for n in numbers]
    (folder / "ids.bin").write_bytes(b"".join(ids))
    np.array([images[n][0] for n in numbers], "<i8").tofile(folder / "versions.bin")
    np.array(sorted(range(len(ids)), key=lambda r: ids[r]), "<i4").tofile(folder / "by_id.bin")
    write_packed(folder, (row(images[n][1]) for n in numbers))
    opened = SegmentPatches.open(folder)
    assert opened is not None
    return opened


async def test_a_generation_answers_what_it_holds_and_the_side_table_what_is_newer(tmp_path: Path) -> None:
    generation = segment(tmp_path, {0: (5, 100), 1: (5, 101), 7: (5, 107)})
    table = Table(3)
    source = Folded(
        lambda features: [generation] if features == FEATURES else [], SideTable(table.read, 1 << 20)
    )
    wanted = {
        uuid.UUID(int=0): 5,
        uuid.UUID(int=1): 6,
        uuid.UUID(int=2): 6,
        uuid.UUID(int=7): 6,
        uuid.UUID(int=9): 1,
    }
    found = {image.int: patches for image, patches in (await source.of(wanted, FEATURES)).items()}
    assert found == {0: row(100), 1: row(1), 2: row(2), 7: row(107)}
    assert table.reads == [[1, 2, 7, 9]]


def test_a_damaged_segment_is_named(tmp_path: Path) -> None:
    segment(tmp_path, {0: (5, 100)})
    (tmp_path / "by_id.bin").write_bytes(b"123")
    with pytest.raises(ProblemError, match=r"by_id\.bin cannot be used: it has 3 bytes"):
        SegmentPatches.open(tmp_path)
