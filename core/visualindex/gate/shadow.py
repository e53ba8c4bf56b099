"""What a shadow showed: the figures of both generations over the same searches, and those that differ most."""

import datetime as dt
import statistics
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visualindex.ann import Hits
from visualindex.api.gate import GateFailure, GateReport, ShadowedQuery, ShadowReport
from visualindex.catalog import ShadowQuery
from visualindex.gate.answers import Answer
from visualindex.gate.limits import Limits
from visualindex.gate.measures import K, mean, mean_score, overlap
from visualindex.gate.worse import TOLD
from visualindex.spec import ShadowSpec

ENOUGH = 20
"""Searches below which nothing is decided: one odd search must not keep a generation out."""
Ended = Literal["enough", "time", "overtaken", "impossible"]


@dataclass(frozen=True)
class Answered:
    """What one generation answered to a search: its hits, and the CPU milliseconds of its slowest shard."""

    hits: Hits
    ms: float


def compared(
    query_id: uuid.UUID, image_id: uuid.UUID | None, active: Answered, candidate: Answered | None
) -> ShadowQuery:
    """Both answers side by side; None for a candidate that did not answer in time."""
    before = _answer(active.hits)
    if candidate is None:
        score = mean_score(before)
        return ShadowQuery(query_id, image_id, None, score, None, active.ms, None, [])
    after = _answer(candidate.hits)
    lost = [uuid.UUID(bytes=one) for one in before.ids if one not in set(after.ids)]
    return ShadowQuery(
        query_id,
        image_id,
        overlap(before, after),
        mean_score(before),
        mean_score(after),
        active.ms,
        candidate.ms,
        lost,
    )


def summed_up(
    generation: str,
    active: str | None,
    terms: ShadowSpec,
    ended: Ended,
    queries: Sequence[ShadowQuery] = (),
    *,
    began_at: dt.datetime | None = None,
    problem: str | None = None,
) -> ShadowReport:
    """The report of a shadow that has ended."""
    answered = [one for one in queries if one.ms_after is not None]
    found = mean([one.overlap for one in answered])
    low = [one for one in answered if one.overlap is not None and one.overlap < terms.min_overlap]
    # By id where the overlap is the same: the same searches give the same report.
    worst = sorted(low, key=lambda one: (one.overlap or 0.0, one.query_id))
    report = ShadowReport(
        ended=ended,
        generation=generation,
        active=active,
        queries=len(answered),
        wanted=terms.min_queries,
        unanswered=len(queries) - len(answered),
        share=terms.share,
        overlap=_rounded(found),
        min_overlap=terms.min_overlap,
        score_shift=_rounded(mean([_shift(one) for one in answered])),
        latency_before_ms=_median([one.ms_before for one in answered]),
        latency_ms=_median([one.ms_after for one in answered if one.ms_after is not None]),
        worst=[_told(one) for one in worst[:TOLD]],
        worst_count=len(low),
        problem=problem,
        began_at=began_at,
        ended_at=dt.datetime.now(dt.UTC),
    )
    return report.model_copy(update={"failure": _failure(report)})


def with_shadow(judged: GateReport, shadow: ShadowReport, limits: Limits) -> GateReport:
    """What the gate makes of a generation that it let pass and that then answered as a shadow."""
    if shadow.failure is None or shadow.overlap is None:
        return judged
    failure = GateFailure(
        measure="shadow", value=shadow.overlap, limit=shadow.min_overlap, detail=shadow.failure
    )
    failures = [*judged.failures, failure]
    return judged.model_copy(update={"failures": failures, "verdict": limits.verdict(failures)})


def _failure(report: ShadowReport) -> str | None:
    if report.queries < min(ENOUGH, report.wanted) or report.overlap is None:
        return None
    if report.overlap >= report.min_overlap:
        return None
    named = ", ".join(str(one.query_id) for one in report.worst[:3])
    return (
        f"in {report.queries} live searches {report.overlap:.3f} of the hits were those of the active generation, at "
        f"least {report.min_overlap:g} must be; the worst: {named}"
    )


def _answer(hits: Hits) -> Answer:
    count = min(K, int(hits.counts[0])) if len(hits.counts) else 0
    return Answer([one.tobytes() for one in hits.ids[0, :count]], np.asarray(hits.scores[0, :count]))


def _shift(one: ShadowQuery) -> float | None:
    if one.score_before is None or one.score_after is None:
        return None
    return one.score_after - one.score_before


def _told(one: ShadowQuery) -> ShadowedQuery:
    return ShadowedQuery(
        query_id=one.query_id,
        image_id=one.image_id,
        overlap=_rounded(one.overlap),
        score_before=_rounded(one.score_before),
        score_after=_rounded(one.score_after),
        ms_before=round(one.ms_before, 3),
        ms_after=None if one.ms_after is None else round(one.ms_after, 3),
        lost=list(one.lost),
    )


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
