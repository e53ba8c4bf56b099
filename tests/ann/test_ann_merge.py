"""Merging the answers of shards equals sorting all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visualindex.ann import Hits, merge_hits

part = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0.75, 0.5, 0.25, -0.5])), max_size=6)
parts = st.lists(st.lists(part, min_size=2, max_size=2), min_size=1, max_size=4)


def key(number: int) -> bytes:
    return (number << 60).to_bytes(16, "big")


def hits_of(answers: list[list[tuple[int, float]]], width: int = 6) -> Hits:
    hits = Hits.none(len(answers), width)
    for query, answer in enumerate(answers):
        hits.counts[query] = len(answer)
        for at, (number, score) in enumerate(answer):
            hits.ids[query, at] = np.frombuffer(key(number), np.uint8)
            hits.scores[query, at] = score
    return hits


@settings(deadline=None)
@given(parts, st.integers(1, 8))
def test_merging_is_sorting_by_score_and_id(parts: list[list[list[tuple[int, float]]]], k: int) -> None:
    merged = merge_hits([hits_of(answers) for answers in parts], k)
    assert merged.ids.shape == (2, k, 16)
    for query in range(2):
        best: dict[int, float] = {}
        for answers in parts:
            for number, score in answers[query]:
                best[number] = max(score, best.get(number, -1.0))
        expected = sorted((-score, key(number)) for number, score in best.items())[:k]
        count = int(merged.counts[query])
        scores = merged.scores[query, :count].tolist()
        assert [(-s, i.tobytes()) for s, i in zip(scores, merged.ids[query], strict=False)] == expected
        assert np.all(np.isneginf(merged.scores[query, count:]))
        assert not merged.ids[query, count:].any()


@settings(deadline=None)
@given(parts)
def test_the_order_of_shards_does_not_matter(parts: list[list[list[tuple[int, float]]]]) -> None:
    one = merge_hits([hits_of(answers) for answers in parts], 5)
    other = merge_hits([hits_of(answers) for answers in reversed(parts)], 5)
    assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(one.scores, other.scores)


def test_parts_of_different_width_merge() -> None:
    merged = merge_hits([hits_of([[(1, 0.5)]], 1), hits_of([[(2, 0.75), (3, 0.25)]], 4)], 3)
    assert merged.scores[0].tolist() == [0.75, 0.5, 0.25]


def test_answers_to_different_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="same queries"):
        merge_hits([Hits.none(1, 3), Hits.none(2, 3)], 3)
    with pytest.raises(ValueError, match="same queries"):
        merge_hits([], 3)
