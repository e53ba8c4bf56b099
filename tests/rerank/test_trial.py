"""A trial fits on some pictures and judges on others."""

import numpy as np

from visualindex.rerank.fusion import Judged
from visualindex.rerank.trial import halves, per_picture, run_trial


def _queries(pictures: int, each: int, telling: float) -> tuple[list[Judged], list[int]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(pictures * each):
        relevant = np.arange(20) == rng.integers(20)
        scores = rng.normal(size=(20, 2)) + relevant[:, None] * [1.0, telling]
        made.append(Judged(scores.astype(np.float32), relevant))
    return made, [n // each for n in range(pictures * each)]


def test_a_signal_that_tells_is_worth_it_and_noise_is_not() -> None:
    good = run_trial(["maxsim"], *_queries(120, 3, 3.0))
    assert good.decision.on
    assert good.decision.queries == 60
    assert good.fusion.weights["maxsim"] > 1
    assert not run_trial(["maxsim"], *_queries(120, 3, 0.0)).decision.on


def test_a_pictures_queries_stay_together() -> None:
    pictures = np.repeat(np.arange(51), 4)
    fitting = halves(pictures).reshape(51, 4)
    assert (fitting.all(axis=1) | ~fitting.any(axis=1)).all()
    assert fitting[:, 0].sum() == 25
    assert np.array_equal(per_picture(np.array([1.0, 0, 1, 1]), np.array([7, 7, 2, 2])), [1.0, 0.5])


def test_no_queries_decide_for_off() -> None:
    assert not run_trial(["maxsim"], [], []).decision.on
