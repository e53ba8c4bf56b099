"""Weights come from answered queries: a signal that tells counts, one that does not is ignored."""

import json

import numpy as np
import pytest

from visualindex.errors import ProblemError
from visualindex.rerank.fusion import Fusion, Judged, fit_fusion


def _queries(count: int, telling: float, seed: int = 0) -> list[Judged]:
    """Ten candidates each, one of them relevant: the first stage tells a little, the second signal as much as is said."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        relevant = np.arange(10) == rng.integers(10)
        noise = rng.normal(size=(10, 2))
        made.append(Judged((noise + relevant[:, None] * [1.0, telling]).astype(np.float32), relevant))
    return made


def test_the_better_a_signal_tells_the_more_it_weighs() -> None:
    weak, strong = (fit_fusion(["maxsim"], _queries(400, telling)).weights["maxsim"] for telling in (0.5, 3))
    assert 0 < weak < 1 < strong


def test_a_signal_of_noise_weighs_nothing() -> None:
    assert abs(fit_fusion(["maxsim"], _queries(2000, 0.0)).weights["maxsim"]) < 0.1


def test_fitted_weights_rank_better_on_queries_they_have_not_seen() -> None:
    fusion = fit_fusion(["maxsim"], _queries(400, 2.0))
    held_out = _queries(400, 2.0, seed=1)
    before = np.mean([q.relevant[q.scores[:, 0].argmax()] for q in held_out])
    after = np.mean(
        [q.relevant[fusion.fused(q.scores[:, 0], {"maxsim": q.scores[:, 1]}).argmax()] for q in held_out]
    )
    assert after > before + 0.2


def test_queries_that_say_nothing_give_the_default_weights() -> None:
    alike = Judged(np.ones((5, 2), np.float32), np.ones(5, np.bool_))
    assert fit_fusion(["maxsim"], [alike]) == Fusion()
    assert fit_fusion(["maxsim"], []) == Fusion()


def test_a_candidate_without_patches_is_judged_by_its_first_score_alone() -> None:
    first = np.array([0.9, 0.8, 0.1], np.float32)
    fused = Fusion({"maxsim": 1.0}).fused(first, {"maxsim": np.array([0.5, np.nan, 0.5], np.float32)})
    assert list(np.argsort(-fused)) == [0, 1, 2]
    assert np.isfinite(fused).all()
    unknown = Fusion().fused(first, {"maxsim": np.full(3, np.nan, np.float32)})
    assert list(np.argsort(-unknown)) == [0, 1, 2]


def test_equal_scores_leave_the_order() -> None:
    assert not Fusion().fused(np.ones(4, np.float32), {"maxsim": np.ones(4, np.float32)}).any()


def test_weights_read_back_as_json() -> None:
    fusion = Fusion({"maxsim": 1.25, "cross": 0.5})
    assert Fusion.from_json(json.loads(json.dumps(fusion.to_json()))) == fusion


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"version": 2, "weights": {}},
        {"version": 1, "weights": {"maxsim": "x"}},
        {"version": 1, "weights": {"maxsim": float("nan")}},
    ],
)
def test_a_document_that_holds_no_weights_is_refused(document: object) -> None:
    with pytest.raises(ProblemError, match="no rerank weights"):
        Fusion.from_json(document)
