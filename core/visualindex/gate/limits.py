"""Which limits of the spec a generation misses."""

from collections.abc import Iterator
from dataclasses import dataclass

from visualindex.api.gate import GateFailure, GateReport, Measure, Verdict
from visualindex.spec import GateSpec, Spec

_OTHER_QUERIES = 0.05
"""By how much recall may miss the target that the build measured with other queries."""
_QUICK_MS = 5.0
"""CPU time of a search below which nobody notices by how much it grew."""


@dataclass(frozen=True)
class Limits:
    """The limits of a spec, with those that follow from others."""

    spec: GateSpec
    recall: float

    @classmethod
    def of(cls, spec: Spec) -> "Limits":
        """Those of a resource."""
        gate = spec.reindex.gate
        return cls(gate, spec.index.target_recall - _OTHER_QUERIES if gate.recall is None else gate.recall)

    def failures(self, report: GateReport) -> list[GateFailure]:
        """The limits that what was measured misses."""
        return [*self._missing(report), *self._own(report), *self._against(report)]

    def verdict(self, failures: list[GateFailure]) -> Verdict:
        """What the spec makes of them."""
        if not failures:
            return "passed"
        return "refused" if self.spec.mode == "enforce" else "warned"

    def _missing(self, report: GateReport) -> Iterator[GateFailure]:
        """Nothing can be asked for what it lacks, so that no other measure notices."""
        expected, missing = report.expected or 0, report.missing or 0
        share = missing / max(1, expected)
        if share <= self.spec.missing:
            return
        detail = (
            f"it lacks {missing} of {expected} images that it ought to hold, at most {self.spec.missing:g} of them may be "
            "missing: were vectors lost, or not made of this encoder? A check finds out, and mends it"
        )
        yield GateFailure(measure="images", value=round(share, 4), limit=self.spec.missing, detail=detail)

    def _own(self, report: GateReport) -> Iterator[GateFailure]:
        found = report.candidate
        if found.recall is not None and found.recall < self.recall:
            yield _failure("recall", found.recall, self.recall, "recall@10 is {}, at least {} is wanted")
        if found.self_in_ten is not None and found.self_in_ten < self.spec.self_retrieval:
            said = "{} of changed copies find their image, at least {} must"
            yield _failure("selfRetrieval", found.self_in_ten, self.spec.self_retrieval, said)

    def _against(self, report: GateReport) -> Iterator[GateFailure]:
        if report.active is None:
            return
        same = report.active.fingerprint == report.candidate.fingerprint
        least = self.spec.agreement if same else self.spec.encoder_agreement
        if report.agreement is not None and report.agreement < least:
            said = "{} of the hits are those of the active generation, at least {} must be"
            yield _failure("agreement", report.agreement, least, said)
        shift = report.score_shift
        if same and shift is not None and abs(shift) > self.spec.score_shift:
            said = "scores moved by {}, at most {} is allowed"
            yield _failure("scoreShift", shift, self.spec.score_shift, said)
        yield from self._precision(report)
        ratio, latency = report.latency_ratio, report.candidate.latency_ms
        slow = latency is not None and latency > _QUICK_MS
        if slow and ratio is not None and ratio > self.spec.latency_ratio:
            said = "a search takes {} times the CPU time, at most {} times is allowed"
            yield _failure("latency", ratio, self.spec.latency_ratio, said)

    def _precision(self, report: GateReport) -> Iterator[GateFailure]:
        drop, error = report.precision_drop, report.precision_error
        if drop is None or error is None or drop - error <= self.spec.precision_drop:
            return
        said = f"precision@10 by {report.labels} fell by {{}} (± {error:.3f}), at most {{}} is allowed"
        yield _failure("precision", drop, self.spec.precision_drop, said)


def _failure(measure: Measure, value: float, limit: float, said: str) -> GateFailure:
    detail = said.format(f"{value:.3f}", f"{limit:g}")
    return GateFailure(measure=measure, value=round(value, 4), limit=round(limit, 4), detail=detail)
