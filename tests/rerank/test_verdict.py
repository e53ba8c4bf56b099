"""Reranking is on only where it surely helps."""

import numpy as np
import pytest

from visualindex.rerank.verdict import bootstrap, worth_it


def test_the_interval_covers_the_true_mean_about_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    intervals = [bootstrap(rng.binomial(1, 0.3, 200), seed=trial) for trial in range(300)]
    covered = np.mean([i.low <= 0.3 <= i.high for i in intervals])
    assert 0.9 < covered < 0.99


def test_a_clear_gain_turns_it_on() -> None:
    decision = worth_it(np.repeat([1.0, 0.0], [20, 180]))
    assert decision.on
    assert decision.gain.mean == pytest.approx(0.1)
    assert decision.reason.startswith("on: +0.100 (95 % interval +0.0")


@pytest.mark.parametrize("gains", [[0.0] * 100, [1.0, -1.0] * 50, [1.0] + [0.0] * 99, [-1.0] * 50])
def test_no_gain_or_an_unsure_one_leaves_it_off(gains: list[float]) -> None:
    assert not worth_it(np.array(gains)).on


def test_few_queries_say_nothing() -> None:
    decision = worth_it(np.ones(10))
    assert not decision.on
    assert "10 held-out queries are too few" in decision.reason
    assert not worth_it(np.empty(0)).on
