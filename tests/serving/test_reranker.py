"""The reranker reads a candidate's patches once and forgets what nobody waits for."""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.patches import Packed
from visualindex_serving.rerank_messages import RerankQuery
from visualindex_serving.rerank_source import Layered, SideTable
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


async def test_an_earlier_source_answers_before_a_later_one() -> None:
    first, second = Table(2), Table(4)
    layered = Layered(SideTable(first.read, 1 << 20), SideTable(second.read, 1 << 20))
    found = await layered.of({uuid.UUID(int=n): 1 for n in range(5)}, FEATURES)
    assert sorted(i.int for i in found) == [0, 1, 2, 3]
    assert second.reads == [[2, 3, 4]]
