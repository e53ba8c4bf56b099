"""From what was answered to the report: figures, what changed, the verdict, and the searches that got worse."""

import uuid

from visualindex.api.gate import GateFigures, GateReport, WorseQuery
from visualindex.gate.asking import Asked, Found
from visualindex.gate.completeness import Completeness
from visualindex.gate.labels import Labels
from visualindex.gate.limits import Limits
from visualindex.gate.measures import K, loss, mean, mean_score, overlap
from visualindex.gate.worse import TOLD, Bars, worse

Precisions = list[float | None]


def report(
    asked: Asked,
    labels: Labels | None,
    limits: Limits,
    *,
    encoded: bool,
    whole: Completeness | None = None,
) -> GateReport:
    """Sum up. `encoded`: the copies were pictures that the encoder saw. `whole`: whether it lacks images, where known."""
    after = _precisions(labels, asked, asked.candidate)
    before = None if asked.active is None else _precisions(labels, asked, asked.active)
    overlaps = _overlaps(asked)
    measured = GateReport(
        verdict="passed",
        candidate=_figures(asked.candidate, after, mean(list(asked.recall.values()))),
        active=None if asked.active is None or before is None else _figures(asked.active, before, None),
        probes=len(asked.probes.ids),
        compared=0 if asked.active is None else len(asked.compared),
        copies="encoded" if encoded else "perturbed",
        labels=None if labels is None else labels.source,
        agreement=_rounded(mean(overlaps)),
        expected=None if whole is None else whole.expected,
        missing=None if whole is None else whole.missing,
        remark=None if len(asked.probes.ids) else _remark(asked.candidate.generation.images),
    )
    measured = measured.model_copy(update=_changes(measured, before, after))
    failures = limits.failures(measured)
    bars = Bars(limits.recall, limits.spec.agreement if _same(measured) else limits.spec.encoder_agreement)
    queries = _queries(asked, overlaps, before, after)
    lost = worse(queries, bars, compared=asked.active is not None and len(asked.active.own.ranks) > 0)
    return measured.model_copy(
        update={
            "failures": failures,
            "verdict": limits.verdict(failures),
            "worse": lost[:TOLD],
            "worse_count": len(lost),
        }
    )


def _remark(images: int) -> str:
    if not images:
        return "nothing was judged: the generation holds no image"
    return "nothing was judged: every image that could be asked for was changed or deleted since it was built"


def _figures(found: Found, precisions: Precisions, recall: float | None) -> GateFigures:
    return GateFigures(
        generation=found.generation.generation,
        fingerprint=found.generation.fingerprint,
        images=found.generation.images,
        recall=_rounded(recall),
        self_first=_rounded(found.own.share(1)),
        self_in_ten=_rounded(found.own.share(K)),
        precision=_rounded(mean(precisions)),
        score=_rounded(mean([mean_score(answer) for answer in found.answers])),
        latency_ms=_rounded(found.latency_ms),
    )


def _changes(measured: GateReport, before: Precisions | None, after: Precisions) -> dict[str, float | None]:
    """What became of the active generation's figures."""
    if measured.active is None or before is None:
        return {}
    now, then = measured.candidate, measured.active
    lost = loss(before, after)
    return {
        "score_shift": None if now.score is None or then.score is None else _rounded(now.score - then.score),
        "precision_drop": None if lost is None else _rounded(lost[0]),
        "precision_error": None if lost is None else _rounded(lost[1]),
        "latency_ratio": _rounded(now.latency_ms / then.latency_ms)
        if now.latency_ms and then.latency_ms
        else None,
    }


def _precisions(labels: Labels | None, asked: Asked, found: Found) -> Precisions:
    ids = [one.tobytes() for one in asked.probes.ids[asked.compared]]
    if labels is None:
        return [None] * len(ids)
    return [labels.precision(one, answer) for one, answer in zip(ids, found.answers, strict=True)]


def _overlaps(asked: Asked) -> list[float | None]:
    if asked.active is None:
        return [None] * len(asked.compared)
    pairs = zip(asked.candidate.answers, asked.active.answers, strict=True)
    return [overlap(after, before) for after, before in pairs]


def _queries(
    asked: Asked, overlaps: list[float | None], before: Precisions | None, after: Precisions
) -> list[WorseQuery]:
    """Every probe with all that is known of it."""
    place = {probe: at for at, probe in enumerate(asked.compared.tolist())}
    ranks = asked.candidate.own.worst()
    earlier = {} if asked.active is None else asked.active.own.worst()
    queries = []
    for probe, one in enumerate(asked.probes.ids):
        if probe not in ranks and probe not in place:
            continue
        at = place.get(probe)
        queries.append(
            WorseQuery(
                image_id=uuid.UUID(bytes=one.tobytes()),
                rank_before=earlier.get(probe),
                rank_after=ranks.get(probe),
                recall=_rounded(asked.recall.get(probe)),
                overlap=None if at is None else _rounded(overlaps[at]),
                precision_before=None if at is None or before is None else _rounded(before[at]),
                precision_after=None if at is None else _rounded(after[at]),
            )
        )
    return queries


def _same(measured: GateReport) -> bool:
    return measured.active is not None and measured.active.fingerprint == measured.candidate.fingerprint


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
