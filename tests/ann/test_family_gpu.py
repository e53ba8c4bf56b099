"""Lists of 8-bit codes in their GPU form: they find what a scan finds, under masks that a GPU does not look at.

No GPU is needed: a stand-in has the place of Faiss's own form (`gpu_stand_in`), the code around it is ours.
"""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from benchmarks.vectors import clustered
from tests.ann import drawn
from tests.ann.drawn import recall
from tests.ann.gpu_stand_in import GpuBuild

from visualindex.ann import codes as half
from visualindex.ann.families import Ann, Effort, Parameters, build_ann, gpu, open_ann
from visualindex.ann.families.base import Approximate
from visualindex.ann.families.gpu import MOST_CANDIDATES, GpuIvfSq8, masked
from visualindex.ann.families.lists import IvfSq8
from visualindex.spec.models import HnswSpec

ROWS, DIMENSION = 9000, 16
EFFORT = Effort(nprobe=12, rescore=2)
queries, kept = partial(drawn.queries, dimension=DIMENSION), partial(drawn.kept, rows=ROWS)


@cache
def rows() -> half.Codes:
    return half.encode(clustered(ROWS, DIMENSION, seed=0, clusters=60))


@cache
def built(family: str = "ivf-sq8") -> Approximate:
    return build_ann(family, rows(), Parameters(HnswSpec(m=8, ef_construction=32)))


def opened(directory: Path, family: str = "ivf-sq8", *, on_gpu: bool = True) -> Ann:
    """The index as a shard opens it that was given a GPU."""
    built(family).write(directory)
    index = open_ann(directory, rows(), gpu=on_gpu)
    assert index is not None
    return index


@pytest.fixture
def faiss_gpu(monkeypatch: pytest.MonkeyPatch) -> GpuBuild:
    monkeypatch.setattr(gpu, "_told", threading.Event())
    return GpuBuild(monkeypatch)


def test_only_what_a_gpu_can_search_is_copied_and_only_where_one_was_given(
    faiss_gpu: GpuBuild, tmp_path: Path
) -> None:
    assert type(opened(tmp_path, on_gpu=False)) is IvfSq8
    for family in ("hnsw-fp16", "ivf-pq", "rabitq"):
        assert not isinstance(opened(tmp_path, family), GpuIvfSq8)
    assert type(build_ann("ivf-sq8", rows()[:1000], Parameters())) is IvfSq8
    assert faiss_gpu.copies == []
    assert isinstance(opened(tmp_path), GpuIvfSq8)


def test_without_a_gpu_build_of_faiss_the_cpu_searches(tmp_path: Path) -> None:
    assert type(opened(tmp_path)) is IvfSq8


def test_with_a_gpu_build_and_no_gpu_the_cpu_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GpuBuild(monkeypatch, gpus=0)
    assert type(opened(tmp_path)) is IvfSq8


@pytest.mark.parametrize(
    ("share", "asked"),
    [(1.0, True), (0.9, True), (0.5, True), (0.2, True), (0.02, False), (0.01, False), (0.001, False)],
)
def test_a_mask_hides_rows_and_costs_no_recall(
    share: float, asked: bool, faiss_gpu: GpuBuild, tmp_path: Path
) -> None:
    """Where few are kept a GPU would have to return more rows than it can: the CPU answers alone."""
    keep, index = kept(share), opened(tmp_path)
    exact, _ = half.scan(rows(), queries(100), 10, keep)
    scores, found = index.search(queries(100), 10, keep, EFFORT)
    there = found >= 0
    assert keep[found[there]].all()
    assert np.count_nonzero(there, axis=1).tolist() == [min(10, np.count_nonzero(keep))] * 100
    assert recall(scores, exact) >= 0.95
    assert (faiss_gpu.copies[0].searches > 0) is asked


@pytest.mark.parametrize("survivors", [1, 7, 30, 90])
def test_few_that_are_kept_are_found_as_by_a_scan(
    survivors: int, faiss_gpu: GpuBuild, tmp_path: Path
) -> None:
    keep = np.zeros(ROWS, np.bool_)
    keep[np.random.default_rng(survivors).choice(ROWS, survivors, replace=False)] = True
    scores, found = opened(tmp_path).search(queries(20), 10, keep, EFFORT)
    exact, order = half.scan(rows(), queries(20), min(10, survivors), keep)
    assert scores[:, : exact.shape[1]].tolist() == exact.tolist()
    assert found[:, : exact.shape[1]].tolist() == order.tolist()
    assert (found[:, exact.shape[1] :] == -1).all()


def test_rows_that_all_lie_far_from_the_query_are_found_when_only_they_are_kept(
    faiss_gpu: GpuBuild, tmp_path: Path
) -> None:
    """Of what the GPU finds nothing is kept, so the CPU is asked."""
    query, keep, index = queries(1), np.zeros(ROWS, np.bool_), opened(tmp_path)
    keep[np.argsort(half.decode(rows()) @ query[0])[: ROWS // 3]] = True
    scores, found = index.search(query, 20, keep, EFFORT)
    assert faiss_gpu.copies[0].searches > 0
    assert keep[found].all()
    assert recall(scores, half.scan(rows(), query, 20, keep)[0]) >= 0.9


@pytest.mark.parametrize("k", [MOST_CANDIDATES // 2 + 1, MOST_CANDIDATES + 1])
def test_pages_deeper_than_a_gpu_goes_come_from_the_cpu(k: int, faiss_gpu: GpuBuild, tmp_path: Path) -> None:
    index = opened(tmp_path)
    for keep in (None, kept(0.95)):
        found = index.search(queries(3), k, keep, EFFORT)
        theirs = built().search(queries(3), k, keep, EFFORT)
        assert [part.tolist() for part in found] == [part.tolist() for part in theirs]
        assert (found[1] >= 0).all()
    assert faiss_gpu.copies[0].searches == 0


def test_scores_are_the_scans_own_floats(faiss_gpu: GpuBuild, tmp_path: Path) -> None:
    asked = queries(10)
    scores, found = opened(tmp_path).search(asked, 25, kept(0.3), EFFORT)
    everything, order = half.scan(rows(), asked, ROWS, None)
    for query in range(len(asked)):
        scored = dict(zip(order[query].tolist(), everything[query].tolist(), strict=True))
        assert [scored[row] for row in found[query].tolist()] == scores[query].tolist()


def test_a_gpu_without_memory_for_an_index_is_told_once_and_the_cpu_searches(
    faiss_gpu: GpuBuild, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faiss_gpu.full = True
    with caplog.at_level(logging.WARNING):
        assert [type(opened(tmp_path)) for _ in range(2)] == [IvfSq8, IvfSq8]
    (message,) = caplog.messages
    assert "failed: out of memory" in message
    assert "raise index.shards or index.numGpus" in message


def test_a_gpu_without_memory_for_a_search_is_told_once_and_the_cpu_searches(
    faiss_gpu: GpuBuild, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = opened(tmp_path)
    faiss_gpu.copies[0].full = True
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = index.search(queries(5), 10, kept(0.5), EFFORT)
    theirs = built().search(queries(5), 10, kept(0.5), EFFORT)
    assert [part.tolist() for part in found] == [part.tolist() for part in theirs]
    assert len(caplog.messages) == 1


def test_the_memory_of_a_gpu_is_given_back_with_the_last_reference(
    faiss_gpu: GpuBuild, tmp_path: Path
) -> None:
    index = opened(tmp_path)
    assert len(faiss_gpu.copies) == 1
    del index
    assert faiss_gpu.copies == []


def test_several_gpus_take_segments_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = GpuBuild(monkeypatch, gpus=2)
    held = [opened(tmp_path) for _ in range(4)]
    assert sorted(copy.gpu for copy in there.copies) == [0, 0, 1, 1]
    del held


def test_threads_search_one_after_another(faiss_gpu: GpuBuild, tmp_path: Path) -> None:
    index = opened(tmp_path)
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(lambda at: index.search(queries(40)[at : at + 1], 10, None, EFFORT)[1], range(40))
        )
    assert np.concatenate(answers).tolist() == index.search(queries(40), 10, None, EFFORT)[1].tolist()


def test_masking_behind_a_search_keeps_the_order() -> None:
    """What GPUs need, whose lists do not look at masks."""
    keep = np.array([True, False, True, False, True])
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0.2]], np.float32)
    rows = np.array([[1, 4, 3, 0], [3, 1, 2, -1]])
    kept_scores, kept_rows = masked(scores, rows, keep, 2)
    assert kept_rows.tolist() == [[4, 0], [2, -1]]
    assert kept_scores[0].tolist() == scores[0, [1, 3]].tolist()
    assert masked(scores, rows, None, 3)[1].tolist() == rows[:, :3].tolist()
