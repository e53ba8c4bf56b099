"""Each limit of the gate trips on its own, and says what is wrong and what is allowed."""

from typing import Any

import pytest

from visualindex.api.gate import GateFigures, GateReport
from visualindex.gate.limits import Limits
from visualindex.spec import Spec

GOOD: dict[str, Any] = {
    "recall": 0.97,
    "self_first": 0.95,
    "self_in_ten": 0.99,
    "precision": 0.8,
    "score": 0.6,
    "latency_ms": 8.0,
}
CHANGES: dict[str, Any] = {
    "agreement": 0.9,
    "score_shift": 0.01,
    "precision_drop": 0.0,
    "precision_error": 0.01,
    "latency_ratio": 1.1,
    "labels": "category",
}


def figures(**changed: Any) -> GateFigures:
    return GateFigures(generation="a" * 16, **{"fingerprint": "f", "images": 100, **GOOD, **changed})


def report(candidate: GateFigures | None = None, before: str = "f", **changed: Any) -> GateReport:
    return GateReport(
        verdict="passed",
        candidate=candidate or figures(),
        active=figures(fingerprint=before),
        probes=100,
        compared=100,
        **{**CHANGES, **changed},
    )


def limits(**gate: Any) -> Limits:
    return Limits.of(Spec.model_validate({"reindex": {"gate": gate}}))


def test_a_good_one_passes() -> None:
    assert limits().failures(report()) == []
    assert limits().verdict([]) == "passed"


@pytest.mark.parametrize(
    ("measured", "measure", "said"),
    [
        (report(expected=100, missing=2), "images", "it lacks 2 of 100 images that it ought to hold"),
        (report(figures(recall=0.89)), "recall", "recall@10 is 0.890, at least 0.9 is wanted"),
        (report(figures(self_in_ten=0.6)), "selfRetrieval", "0.600 of changed copies find their image"),
        (report(agreement=0.4), "agreement", "0.400 of the hits are those of the active generation"),
        (report(score_shift=-0.2), "scoreShift", "scores moved by -0.200, at most 0.05"),
        (report(precision_drop=0.1), "precision", "precision@10 by category fell by 0.100"),
        (report(latency_ratio=4.0), "latency", "4.000 times the CPU time, at most 3 times"),
    ],
)
def test_each_limit_trips(measured: GateReport, measure: str, said: str) -> None:
    (failure,) = limits().failures(measured)
    assert failure.measure == measure
    assert said in failure.detail


def test_what_was_not_measured_trips_nothing() -> None:
    unknown = figures(**dict.fromkeys(GOOD))
    nothing = dict.fromkeys(CHANGES)
    assert limits().failures(report(unknown, **nothing)) == []


def test_another_encoder_may_have_other_scores_and_other_neighbours() -> None:
    assert limits().failures(report(before="other", score_shift=0.3, agreement=0.1)) == []
    (failure,) = limits().failures(report(before="other", agreement=0.01))
    assert (failure.measure, failure.limit) == ("agreement", 0.05)


def test_a_loss_of_precision_that_chance_explains_passes() -> None:
    assert limits().failures(report(precision_drop=0.08, precision_error=0.04)) == []


def test_few_missing_images_are_no_loss() -> None:
    assert limits().failures(report(expected=100, missing=1)) == []
    assert len(limits(missing=0).failures(report(expected=100, missing=1))) == 1


def test_a_slower_search_that_nobody_notices_passes() -> None:
    assert limits().failures(report(figures(latency_ms=2.0), latency_ratio=20.0)) == []


def test_the_recall_wanted_follows_the_target_unless_it_is_given() -> None:
    lax = Spec.model_validate({"index": {"targetRecall": 0.7}})
    assert Limits.of(lax).recall == pytest.approx(0.65)
    assert limits(recall=0.99).recall == 0.99


def test_what_a_missed_limit_means_is_said_by_the_mode() -> None:
    failures = limits().failures(report(agreement=0.0))
    assert limits(mode="enforce").verdict(failures) == "refused"
    assert limits(mode="measure").verdict(failures) == "warned"
