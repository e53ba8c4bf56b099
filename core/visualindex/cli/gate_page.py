"""A report of the quality gate as people read it: the figures of both generations, the verdict, and what got worse."""

from collections.abc import Iterator

from visualindex.api.gate import GateFigures, GateReport, ShadowedQuery, ShadowReport, WorseQuery
from visualindex.cli.index_pages import table

_ENDED = {
    "enough": "enough searches were compared",
    "time": "the time was over",
    "overtaken": "an activation or another shadow took its place",
    "impossible": "it could not begin",
}
_COPIES = {"encoded": "changed pictures", "perturbed": "changed vectors"}


def page(report: GateReport) -> str:
    """Everything a report says."""
    shadow = [] if report.shadow is None else ["", shadow_page(report.shadow)]
    parts = (*_head(report), "", _figures(report), *_changes(report), *_failures(report), *_worse(report))
    return "\n".join([*parts, *shadow])


def _head(report: GateReport) -> Iterator[str]:
    yield f"verdict      {report.verdict}"
    against = "no generation was active" if report.active is None else f"{report.compared} of them in both"
    yield f"probes       {report.probes} images, {against}; copies are {_COPIES[report.copies]}"
    if report.remark is not None:
        yield f"REMARK       {report.remark}"
    if report.missing:
        yield f"missing      {report.missing} of {report.expected} images that the candidate ought to hold"
    yield f"labels       {report.labels or 'none: too few images have a category or judged hits'}"
    yield f"took         {report.seconds:.1f} s"


def _figures(report: GateReport) -> str:
    sides = [("candidate", report.candidate)]
    if report.active is not None:
        sides.append(("active", report.active))
    head = ("", "generation", "images", "recall@10", "itself first", "in ten", "precision@10", "score", "ms")
    return table(head, [(name, *_row(side)) for name, side in sides])


def _row(side: GateFigures) -> tuple[str, ...]:
    shares = (side.recall, side.self_first, side.self_in_ten, side.precision, side.score)
    latency = "" if side.latency_ms is None else f"{side.latency_ms:.2f}"
    return (side.generation, str(side.images), *map(_share, shares), latency)


def _changes(report: GateReport) -> Iterator[str]:
    if report.active is None:
        return
    parts = [
        f"agreement@10 {_share(report.agreement) or 'unknown'}",
        f"precision drop {_share(report.precision_drop) or 'unknown'}",
        f"score shift {_share(report.score_shift) or 'unknown'}",
        f"latency ratio {_share(report.latency_ratio) or 'unknown'}",
    ]
    yield ""
    yield ", ".join(parts)


def _failures(report: GateReport) -> Iterator[str]:
    if report.failures:
        yield ""
        yield from (f"MISSED  {failure.measure}: {failure.detail}" for failure in report.failures)


def _worse(report: GateReport) -> Iterator[str]:
    if not report.worse:
        return
    yield ""
    # Of another encoder, or without an active one, nobody knows where the image was found before.
    known = report.active is not None and report.active.self_first is not None
    before = ("rank before",) if known else ()
    did = "got worse" if known else "got worse or are found badly (nothing is known of their rank before)"
    yield f"{report.worse_count} searches {did}, the worst first:"
    head = ("image", *before, "rank after", "recall", "overlap", "precision before", "precision after")
    yield table(head, [_query(one, known) for one in report.worse])


def _query(one: WorseQuery, known: bool) -> tuple[str, ...]:
    """A line; `known`: the active generation was asked for the same copies."""
    before = (_rank(one.rank_before),) if known else ()
    return (
        str(one.image_id),
        *before,
        _rank(one.rank_after),
        *map(_share, (one.recall, one.overlap, one.precision_before, one.precision_after)),
    )


def _rank(rank: int | None) -> str:
    return ">10" if rank is None else str(rank)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def shadow_page(report: ShadowReport) -> str:
    """How a candidate answered live searches beside the active generation."""
    return "\n".join([*_shadow_head(report), *_shadow_figures(report), *_differing(report)])


def _shadow_head(report: ShadowReport) -> Iterator[str]:
    yield f"shadow       {report.generation} beside {report.active or 'none'}, {report.share:g} of the searches"
    yield f"ended        {_ENDED[report.ended]}"
    unanswered = f", {report.unanswered} not answered by it in time" if report.unanswered else ""
    yield f"searches     {report.queries} compared, {report.wanted} wanted{unanswered}"
    if report.problem is not None:
        yield f"problem      {report.problem}"


def _shadow_figures(report: ShadowReport) -> Iterator[str]:
    if not report.queries:
        return
    shift = _share(report.score_shift) or "unknown"
    yield f"overlap@10   {_share(report.overlap) or 'unknown'}, at least {report.min_overlap:g} is wanted"
    yield f"score shift  {shift}"
    yield f"median ms    {_ms(report.latency_ms)}, of the active generation {_ms(report.latency_before_ms)}"
    if report.failure is not None:
        yield ""
        yield f"MISSED  shadow: {report.failure}"


def _differing(report: ShadowReport) -> Iterator[str]:
    if not report.worst:
        return
    yield ""
    yield f"{report.worst_count} searches found less of the same, the worst first:"
    head = ("search", "image", "overlap", "score before", "score after", "lost")
    yield table(head, [_search(one) for one in report.worst])


def _search(one: ShadowedQuery) -> tuple[str, ...]:
    scores = map(_share, (one.overlap, one.score_before, one.score_after))
    return (str(one.query_id), str(one.image_id or ""), *scores, str(len(one.lost)))


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
