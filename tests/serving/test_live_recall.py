"""Live recall: sampled searches are repeated exactly over the rows they saw, and no search waits for that."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.vectors import clustered

from visualindex.ann import Ask, Base, Deletes, Grouping, ShardIndex, Snapshot, open_segment, write_segment
from visualindex.ann import codes as half
from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import fields
from visualindex.ann.families import Effort, Parameters, build_ann
from visualindex.ann.segment import VECTORS
from visualindex.filters import parse_filter
from visualindex.identity import buckets_of
from visualindex.spec.models import HnswSpec
from visualindex_serving import live_recall
from visualindex_serving.live_recall import LiveRecall, Sample, measured

ROWS, DIMENSION, ASKED = 5000, 32, 60
MOST = parse_filter({"eq": {"category": "usual"}})
"""Passes nine rows of ten: the index is searched all the same."""


def ids(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16), np.uint8)


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inverted lists of which a search looks at one alone: it misses much."""
    directory = tmp_path_factory.mktemp("segment")
    codes = half.encode(clustered(ROWS, DIMENSION, seed=0, clusters=60))
    codes.tofile(directory / VECTORS)
    ann = build_ann("ivf-sq8", codes, Parameters(HnswSpec()))
    ann.effort = Effort(nprobe=1, rescore=1)
    named = [fields({"category": "rare" if row % 10 == 0 else "usual"}) for row in range(ROWS)]
    rows = ids(ROWS)
    write_segment(
        directory,
        ids=rows,
        versions=np.ones(ROWS, np.int64),
        buckets=buckets_of(rows),
        attributes=AttributeColumns.build(named),
        ann=ann,
    )
    return directory


@pytest.fixture
def index(segment: Path) -> Iterator[ShardIndex]:
    bases = [Base.of(open_segment(segment, DIMENSION), range(1024))]
    opened = ShardIndex(DIMENSION, flat_below=1000, hnsw=HnswSpec(), memory_limit=1 << 30, bases=bases)
    yield opened
    opened.close()


def queries() -> np.ndarray:
    drawn = clustered(ASKED, DIMENSION, seed=1, clusters=60)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def truth(snapshot: Snapshot, query: np.ndarray, ask: Ask) -> set[bytes]:
    """The ids of the true hits, by all scores."""
    everything = snapshot.look(query, Ask(ROWS, ask.filter), exact=True).hits
    return {one.tobytes() for one in everything.ids[0, : ask.k]}


def sampled(snapshot: Snapshot, query: np.ndarray, ask: Ask) -> Sample:
    hits = snapshot.look(query, ask).hits
    return Sample("g", snapshot, query, ask, hits.scores[0, : hits.counts[0]])


@pytest.mark.parametrize("ask", [Ask(10), Ask(10, MOST)], ids=["all", "filtered"])
def test_it_is_the_share_of_the_true_hits_that_an_approximate_search_found(
    index: ShardIndex, ask: Ask
) -> None:
    snapshot = index.snapshot()
    recalls = []
    for query in queries()[:, None]:
        found = {one.tobytes() for one in snapshot.look(query, ask).hits.ids[0]}
        recall = measured(sampled(snapshot, query, ask))
        assert recall == len(found & truth(snapshot, query, ask)) / 10
        recalls.append(recall)
    assert 0.1 < np.mean(recalls) < 0.99


def test_an_exact_search_has_full_recall_and_a_filter_without_matches_has_none(index: ShardIndex) -> None:
    snapshot, query = index.snapshot(), queries()[:1]
    few = Ask(10, parse_filter({"eq": {"category": "neither"}}))
    exact = snapshot.look(query, Ask(10), exact=True).hits
    assert measured(Sample("g", snapshot, query, Ask(10), exact.scores[0])) == 1.0
    assert measured(sampled(snapshot, query, few)) is None


def test_more_hits_than_ten_count_as_ten_and_fewer_as_they_are(index: ShardIndex) -> None:
    snapshot, query = index.snapshot(), queries()[:1]
    exact = snapshot.look(query, Ask(100), exact=True).hits
    worst_last = Sample("g", snapshot, query, Ask(100), exact.scores[0, :10])
    assert measured(worst_last) == 1.0
    assert measured(Sample("g", snapshot, query, Ask(2), exact.scores[0, :1])) == 0.5


def test_what_is_written_meanwhile_does_not_count_against_the_search(index: ShardIndex) -> None:
    query = queries()[:1]
    snapshot = index.snapshot()
    hits = snapshot.look(query, Ask(10), exact=True).hits
    index.apply(None, Deletes(hits.ids[0]))
    assert measured(Sample("g", snapshot, query, Ask(10), hits.scores[0])) == 1.0


class Watched:
    """A live recall whose thread waits before each sample until it is let go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: float = 1.0, chance: float = 0.0) -> None:
        self.begun, self.go, self.done = (threading.Semaphore(0) for _ in range(3))
        self.recall = LiveRecall(share, chance=lambda: chance)
        self.threads: set[str] = set()
        self.nice: set[int] = set()
        monkeypatch.setattr(live_recall, "measured", self._measured)

    def _measured(self, sample: Sample) -> float | None:
        self.threads.add(threading.current_thread().name)
        self.nice.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        self.begun.release()
        assert self.go.acquire(timeout=30)
        recall = measured(sample)
        self.done.release()
        return recall

    def offer(self, index: ShardIndex, generation: str = "g", ask: Any = Ask(10)) -> None:  # noqa: B008
        snapshot = index.snapshot()
        looked = snapshot.look(queries()[:1], ask)
        self.recall.offer(generation, snapshot, queries()[:1], ask, looked)

    def finish(self, samples: int) -> None:
        """Let this many samples be looked at, and wait until they are noted."""
        for _ in range(samples):
            self.go.release()
            assert self.done.acquire(timeout=30)
        self.recall.close()
        thread = self.recall._thread
        assert thread is not None
        thread.join(30)
        assert not thread.is_alive()


def test_one_sample_is_looked_at_one_waits_and_the_others_are_dropped(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    watched.offer(index)
    assert watched.begun.acquire(timeout=30)
    for _ in range(5):
        watched.offer(index)
    watched.go.release()
    assert watched.begun.acquire(timeout=30)
    watched.go.release()
    for _ in range(2):
        assert watched.done.acquire(timeout=30)
    watched.finish(0)
    recall, samples = watched.recall.figures("g")
    assert samples == 2
    assert recall == measured(sampled(index.snapshot(), queries()[:1], Ask(10)))


def test_samples_are_looked_at_in_a_thread_of_the_lowest_priority(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    watched.offer(index)
    watched.finish(1)
    assert (watched.threads, watched.nice) == ({"live-recall"}, {19})


def test_generations_are_told_apart(index: ShardIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.offer(index, "first")
    watched.finish(1)
    assert watched.recall.figures("first")[1] == 1
    assert watched.recall.figures("second") == (None, 0)


def test_only_the_share_that_is_wanted_is_sampled_and_no_grouped_search(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlucky = Watched(monkeypatch, share=0.01, chance=0.01)
    unlucky.offer(index)
    never = Watched(monkeypatch, share=0.0, chance=0.0)
    never.offer(index)
    grouped = Watched(monkeypatch)
    grouped.offer(index, ask=Ask(10, group=Grouping("category")))
    assert [one.recall._thread for one in (unlucky, never, grouped)] == [None] * 3
