"""The graph: it finds what a scan finds, keeps up with changes, and never makes an answer short."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from visualindex.ann import Ask, Deletes, Hits, ShardIndex, Upserts
from visualindex.ann.looking import look
from visualindex.ann.maintenance import Work, prepared
from visualindex.ann.searching import Settings
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import Filter, parse_filter
from visualindex.spec.models import HnswSpec

DIMENSION = 32
ROWS = 3000
GIB = 1 << 30


def clustered(rows: int, seed: int = 7) -> np.ndarray:
    """Unit vectors around 40 centres, like the categories of a catalogue."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((40, DIMENSION))
    vectors = centres[random.integers(0, 40, rows)] + 0.6 * random.standard_normal((rows, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def numbered(first: int, count: int) -> np.ndarray:
    """Ids whose last bytes count up; their order is the order of the numbers."""
    ids = np.zeros((count, 16), np.uint8)
    ids[:, 12:] = np.arange(first, first + count, dtype=">u4")[:, None].view(np.uint8)
    return ids


def numbers(hits: Hits, query: int = 0) -> list[int]:
    """The numbers behind the ids one query found."""
    return [int.from_bytes(key.tobytes(), "big") for key in hits.ids[query, : hits.counts[query]]]


def upserts(vectors: np.ndarray, first: int = 0, version: int = 1) -> Upserts:
    about = [{"category": f"c{n % 50}", "metadata": {"n": n}} for n in range(first, first + len(vectors))]
    return Upserts(numbered(first, len(vectors)), vectors, about, np.full(len(vectors), version))


def shard(flat_below: int, memory_limit: int = GIB) -> ShardIndex:
    return ShardIndex(DIMENSION, flat_below=flat_below, hnsw=HnswSpec(m=16), memory_limit=memory_limit)


@pytest.fixture
def graph() -> Iterator[ShardIndex]:
    index = shard(flat_below=200)
    index.load(upserts(clustered(ROWS)[at : at + 500], at) for at in range(0, ROWS, 500))
    index.maintain()
    yield index
    index.close()


@pytest.fixture
def flat() -> ShardIndex:
    index = shard(flat_below=GIB)
    index.apply(upserts(clustered(ROWS)))
    return index


def recall(found: Hits, truth: Hits) -> float:
    """Share of the true neighbours that were found."""
    shares = [
        len(set(numbers(found, at)) & set(numbers(truth, at))) / truth.counts[at]
        for at in range(len(truth.counts))
    ]
    return float(np.mean(shares))


def test_a_graph_covers_what_was_loaded(graph: ShardIndex, flat: ShardIndex) -> None:
    assert graph.stats()["graph_rows"] > ROWS - 2 * 50 - 1
    assert graph.stats()["graph_rows"] + graph.stats()["scanned_rows"] == ROWS
    assert flat.stats()["graph_rows"] == 0


def test_recall_at_ten_is_above_95_percent(graph: ShardIndex, flat: ShardIndex) -> None:
    queries = clustered(100, seed=99)
    assert recall(graph.search(queries, 10), flat.search(queries, 10)) >= 0.95


@pytest.mark.parametrize("below", [60, 600, 1500])
def test_recall_under_a_filter_is_above_95_percent(graph: ShardIndex, flat: ShardIndex, below: int) -> None:
    queries, tree = clustered(50, seed=98), parse_filter({"range": {"metadata.n": {"lt": below}}})
    found = graph.search(queries, 10, tree)
    assert found.ids[:, :, 12:].copy().view(">u4").max() < below
    assert recall(found, flat.search(queries, 10, tree)) >= 0.95


def test_the_scan_is_exact(flat: ShardIndex) -> None:
    vectors, queries = clustered(ROWS).astype(np.float16).astype(np.float32), clustered(20, seed=97)
    scores = queries @ vectors.T
    truth = np.sort(scores, axis=1)[:, ::-1][:, :25]
    found = flat.search(queries, 25)
    assert found.scores == pytest.approx(truth, abs=1e-4)
    for query in range(20):
        assert scores[query, numbers(found, query)] == pytest.approx(truth[query], abs=1e-4)


def test_scores_of_graph_and_scan_are_the_same_floats(graph: ShardIndex, flat: ShardIndex) -> None:
    """Replicas differ in what their graphs cover; the same image must still get the same score from all."""
    queries = clustered(20, seed=96)
    ours, theirs = graph.search(queries, 10), flat.search(queries, 10)
    for query in range(20):
        scored = dict(zip(numbers(theirs, query), theirs.scores[query].tolist(), strict=True))
        for number, score in zip(numbers(ours, query), ours.scores[query].tolist(), strict=True):
            assert scored.get(number, score) == score


@pytest.mark.parametrize("k", [1, 10, 500, ROWS, ROWS + 10])
def test_answers_are_whole_whatever_is_asked(graph: ShardIndex, k: int) -> None:
    for tree, matching in ((None, ROWS), (parse_filter({"eq": {"category": "c7"}}), ROWS // 50)):
        hits = graph.search(clustered(3, seed=95), k, tree)
        assert hits.counts.tolist() == [min(k, matching)] * 3
        assert all(len(set(numbers(hits, at))) == min(k, matching) for at in range(3))


def test_answers_are_whole_and_exact_when_the_graph_loses_its_way() -> None:
    """Only the farthest images match, and more than are scanned at once: the graph finds none near the query."""
    vectors, query = clustered(ROWS), clustered(ROWS)[:1]
    far = np.argsort(vectors @ query[0])[:300].tolist()
    about = [{"category": "far" if number in set(far) else "near"} for number in range(ROWS)]
    index = ShardIndex(DIMENSION, flat_below=200, hnsw=HnswSpec(m=16, ef_search=8), memory_limit=GIB)
    index.apply(Upserts(numbered(0, ROWS), vectors, about, np.ones(ROWS, int)))
    index.maintain()
    state, tree = index._state, parse_filter({"eq": {"category": "far"}})
    assert state.graph is not None
    _, rows = state.graph.search(query, 10, state.attributes.mask(tree, ROWS), 8)
    assert (rows < 0).any(), "the graph must fall short for this test to say anything"
    assert numbers(index.search(query, 10, tree)) == far[::-1][:10]
    mixed = index.search(np.concatenate([vectors[far[:1]], query]), 10, tree)
    assert numbers(mixed, 0)[0] == far[0]
    assert numbers(mixed, 1) == far[::-1][:10]
    index.close()


@pytest.mark.parametrize("work", [Work.EXTEND, Work.BUILD])
def test_what_changes_while_maintenance_runs_is_kept(graph: ShardIndex, work: Work) -> None:
    graph.close()  # only the maintenance below may happen
    graph.apply(upserts(clustered(40, seed=5), first=ROWS))
    finish = prepared(work, graph._state, HnswSpec(m=16), lambda: True, threads=1)
    late = clustered(30, seed=6)
    graph.apply(upserts(late, first=ROWS + 100), Deletes(numbered(ROWS, 10)))
    graph.apply(Upserts(numbered(7, 1), -late[:1], [{"category": "moved"}], np.array([2])))
    after = finish(graph._state)
    assert after.live == len(graph) == ROWS + 60
    assert after.base == ROWS + 40

    def nearest(vectors: np.ndarray, tree: Filter | None = None) -> list[int]:
        hits = look(after, vectors, Ask(1, tree), Settings(exact_up_to=100, ef_search=200)).hits
        return [numbers(hits, at)[0] for at in range(len(vectors))]

    assert nearest(late) == list(range(ROWS + 100, ROWS + 130))
    assert nearest(clustered(40, seed=5)[10:]) == list(range(ROWS + 10, ROWS + 40))
    assert nearest(-late[:1]) == [7]
    assert nearest(late[:1], parse_filter({"eq": {"category": "moved"}})) == [7]
    assert all(after.ids[row].tobytes() == key and after.alive[row] for key, row in after.row_of.items())
    assert len(after.row_of) == after.live


def test_answers_are_whole_when_the_neighbourhood_is_gone(graph: ShardIndex) -> None:
    """All images near the query are removed or filtered away: the far ones still come back, all of them."""
    query = clustered(ROWS)[:1]
    nearest = numbers(graph.search(query, 2500))
    graph.apply(None, Deletes(np.concatenate([numbered(number, 1) for number in nearest[:2000]])))
    left = graph.search(query, ROWS)
    assert sorted(numbers(left)) == sorted(set(range(ROWS)) - set(nearest[:2000]))
    shut = [numbered(number, 1).tobytes() for number in nearest[2000:]]
    assert set(numbers(graph.search(query, ROWS, None, shut))) == set(numbers(left)) - set(nearest)


def test_a_replaced_image_is_found_where_it_is_now(graph: ShardIndex) -> None:
    moved = -clustered(ROWS)[:1]
    graph.apply(Upserts(numbered(0, 1), moved, [{"category": "new"}], np.array([2])))
    assert numbers(graph.search(moved, 1)) == [0]
    assert 0 not in numbers(graph.search(-moved, 50))
    assert numbers(graph.search(-moved, 5, parse_filter({"eq": {"category": "new"}}))) == [0]
    assert numbers(graph.search(-moved, 5, parse_filter({"eq": {"metadata.n": 0}}))) == []


def test_the_graph_grows_over_the_tail(graph: ShardIndex) -> None:
    covered = graph.stats()["graph_rows"]
    graph.apply(upserts(clustered(400, seed=5), first=ROWS))
    graph.maintain()
    assert graph.stats()["graph_rows"] >= covered + 400
    queries = clustered(400, seed=5)
    assert (
        np.mean([numbers(graph.search(queries[at : at + 1], 1))[0] == ROWS + at for at in range(400)]) > 0.97
    )


def test_dead_rows_are_dropped_and_memory_with_them(graph: ShardIndex) -> None:
    before = graph.memory_bytes
    graph.apply(None, Deletes(numbered(0, 1500)))
    graph.maintain()
    assert graph.stats()["dead"] == 0
    assert graph.memory_bytes < 0.7 * before
    query = clustered(ROWS)[2000:2001]
    assert numbers(graph.search(query, 1)) == [2000]
    assert numbers(graph.search(query, 5, parse_filter({"eq": {"metadata.n": 2001}}))) == [2001]
    graph.apply(None, Deletes(numbered(1500, ROWS - 1600)))
    graph.maintain()
    assert (len(graph), graph.stats()["graph_rows"]) == (100, 0)
    assert sorted(numbers(graph.search(query, 200))) == list(range(ROWS - 100, ROWS))


def test_equal_scores_are_cut_by_id_whatever_the_order_of_arrival() -> None:
    same = np.repeat(clustered(1), 100, axis=0)
    forward, backward = shard(flat_below=GIB), shard(flat_below=GIB)
    forward.apply(upserts(same))
    for number in reversed(range(100)):
        backward.apply(upserts(same[:1], first=number))
    for index in (forward, backward):
        assert numbers(index.search(same[:1], 7)) == list(range(7))


def test_the_memory_limit_refuses_whole_and_names_the_remedy() -> None:
    index = shard(flat_below=GIB, memory_limit=1_000_000)
    index.apply(upserts(clustered(500)))
    query = clustered(1, seed=3)
    before, held = index.search(query, 10), index.memory_bytes
    with pytest.raises(ProblemError, match=r"1000000 bytes.*memoryPerShard.*add shards") as caught:
        index.apply(upserts(clustered(5000), first=100, version=2), Deletes(numbered(0, 10)))
    assert caught.value.type is ProblemType.STORAGE_FULL
    after = index.search(query, 10)
    assert np.array_equal(before.ids, after.ids)
    assert (len(index), index.memory_bytes) == (500, held)
    assert index.apply(None, Deletes(numbered(0, 490))).deleted == 490
    assert index.apply(upserts(clustered(200), first=1000)).upserted == 200
    assert len(index) == 210


def test_replacing_all_images_again_and_again_stays_within_the_limit() -> None:
    """Dead rows give way before anything is refused."""
    index = shard(flat_below=GIB, memory_limit=1_200_000)
    for version in range(1, 20):
        assert index.apply(upserts(clustered(500), version=version)).upserted == 500
    assert index.memory_bytes <= 1_200_000
    assert len(index) == 500


@pytest.mark.parametrize(
    ("broken", "hint"),
    [
        (Upserts(numbered(0, 2), np.ones((1, DIMENSION)), [{}, {}], np.ones(2, int)), "differ in length"),
        (Upserts(numbered(0, 1), np.ones((1, 8)), [{}], np.ones(1, int)), "this index's encoder"),
        (Upserts(numbered(0, 1), np.zeros((1, DIMENSION)), [{}], np.ones(1, int)), "no direction"),
        (Upserts(numbered(0, 1), np.full((1, DIMENSION), np.nan), [{}], np.ones(1, int)), "no direction"),
        (Upserts(numbered(0, 1)[:, :8], np.ones((1, DIMENSION)), [{}], np.ones(1, int)), "uint8"),
    ],
)
def test_malformed_changes_are_refused_and_change_nothing(broken: Upserts, hint: str) -> None:
    index = shard(flat_below=10)
    with pytest.raises(ProblemError, match=hint) as caught:
        index.apply(broken)
    assert caught.value.type is ProblemType.INVALID_REQUEST
    assert len(index) == 0


def test_no_queries_and_an_empty_index_have_empty_answers() -> None:
    index = shard(flat_below=10)
    assert index.search(clustered(2), 5).counts.tolist() == [0, 0]
    assert index.search(clustered(2)[:0], 5).ids.shape == (0, 5, 16)


def test_searches_beside_writes_and_maintenance_stay_whole() -> None:
    """Images 0-499 never change, 500-999 are gone before the searches start, the others come, move and go."""
    index = shard(flat_below=300)
    index.apply(upserts(clustered(1000)))
    index.apply(None, Deletes(numbered(500, 500)))
    done, failures = threading.Event(), []

    def search(seed: int) -> None:
        stable = parse_filter({"range": {"metadata.n": {"lt": 500}}})
        queries = clustered(4, seed=seed)
        try:
            while not done.is_set():
                for tree, least in ((None, 500), (stable, 500)):
                    hits = index.search(queries, 600, tree, [numbered(3, 1).tobytes()])
                    for query in range(4):
                        found = numbers(hits, query)
                        assert len(found) == len(set(found)) >= least - 1
                        assert 3 not in found
                        assert not any(500 <= number < 1000 for number in found)
                        assert tree is None or sorted(found) == [n for n in range(500) if n != 3]
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=search, args=(seed,)) for seed in (11, 12)]
    for thread in threads:
        thread.start()
    for version in range(1, 25):
        index.apply(upserts(clustered(150, seed=version), first=1000 + version % 5 * 100, version=version))
        index.apply(None, Deletes(numbered(1000 + version % 7 * 100, 100), np.full(100, version)))
    index.maintain()
    done.set()
    for thread in threads:
        thread.join()
    index.close()
    assert failures == []


def test_closing_abandons_a_build_and_searches_go_on() -> None:
    index = shard(flat_below=100)
    index.apply(upserts(clustered(ROWS)))
    index.close()
    assert not index.stats()["maintaining"]
    assert index.search(clustered(1), 10).counts.tolist() == [10]
    assert index.stats()["maintenance_failures"] == 0
