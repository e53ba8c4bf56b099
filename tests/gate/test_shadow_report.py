"""What a shadow showed: which hits were lost, what is decided by how many searches, and what the gate makes of it."""

import datetime as dt
import uuid
from collections.abc import Sequence

import numpy as np
import pytest

from visualindex.ann import Hits
from visualindex.api.gate import GateFigures, GateReport
from visualindex.catalog import ShadowQuery
from visualindex.gate.limits import Limits
from visualindex.gate.shadow import ENOUGH, Answered, compared, summed_up, with_shadow
from visualindex.spec import GateSpec, ShadowSpec

TERMS = ShadowSpec(min_queries=200, min_overlap=0.8)


def image(number: int) -> uuid.UUID:
    return uuid.UUID(int=number)


def answered(numbers: Sequence[int], ms: float = 1.0, score: float = 0.9) -> Answered:
    ids = np.frombuffer(b"".join(image(n).bytes for n in numbers), np.uint8).reshape(1, -1, 16)
    count = np.array([len(numbers)], np.int64)
    scores = np.full((1, len(numbers)), score, np.float32)
    return Answered(Hits(ids, scores, count, np.zeros((1, len(numbers)), np.int64)), ms)


def searches(count: int, overlap: float) -> list[ShadowQuery]:
    return [ShadowQuery(image(n), None, overlap, 0.9, 0.8, 1.0, 2.0, []) for n in range(count)]


def test_hits_that_the_candidate_lacks_are_named() -> None:
    one = compared(image(9), image(1), answered(range(10)), answered([*range(5), 20, 21], ms=3, score=0.7))
    assert one.overlap == 0.5
    assert list(one.lost) == [image(number) for number in range(5, 10)]
    assert (one.ms_before, one.ms_after) == (1.0, 3)
    assert (one.score_before, one.score_after) == (pytest.approx(0.9), pytest.approx(0.7))


def test_only_the_first_ten_hits_count() -> None:
    assert compared(image(9), None, answered(range(20)), answered(range(10))).overlap == 1.0


def test_a_search_without_hits_says_nothing_and_one_unanswered_is_counted_apart() -> None:
    nothing = compared(image(1), None, answered([]), answered([1]))
    silent = compared(image(2), None, answered([1]), None)
    report = summed_up("c", "a", TERMS, "enough", [nothing, silent, *searches(30, 0.9)])
    assert (report.queries, report.unanswered, report.overlap) == (31, 1, 0.9)
    assert report.failure is None


@pytest.mark.parametrize(("count", "fails"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_a_few_searches_decide_nothing(count: int, fails: bool) -> None:
    report = summed_up("c", "a", TERMS, "time", searches(count, 0.5), began_at=dt.datetime.now(dt.UTC))
    assert (report.failure is not None) is fails
    assert report.worst_count == count


def test_the_worst_searches_are_named_worst_first() -> None:
    report = summed_up("c", "a", TERMS, "enough", [*searches(200, 0.9), *_numbered(300, 0.1)])
    assert [one.overlap for one in report.worst] == [0.1, 0.11, 0.12]
    assert (report.score_shift, report.latency_before_ms, report.latency_ms) == (-0.1, 1.0, 2.0)
    assert report.failure is None


def _numbered(first: int, least: float) -> list[ShadowQuery]:
    return [
        ShadowQuery(image(first + n), None, least + n / 100, 0.9, 0.8, 1.0, 2.0, [image(n)]) for n in range(3)
    ]


@pytest.mark.parametrize(("mode", "verdict"), [("enforce", "refused"), ("measure", "warned")])
def test_the_gate_makes_of_it_what_its_mode_says(mode: str, verdict: str) -> None:
    limits = Limits(GateSpec.model_validate({"mode": mode}), 0.9)
    figures = GateFigures(generation="c", fingerprint="f", images=10)
    judged = GateReport(verdict="passed", candidate=figures, probes=10)
    worse = summed_up("c", "a", TERMS, "enough", searches(200, 0.5))
    found = with_shadow(judged, worse, limits)
    assert (found.verdict, [one.measure for one in found.failures]) == (verdict, ["shadow"])
    assert str(image(0)) in found.failures[0].detail
    alike = summed_up("c", "a", TERMS, "enough", searches(200, 0.9))
    assert with_shadow(judged, alike, limits) == judged
