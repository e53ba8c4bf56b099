"""A report of the quality gate as people read it: the figures of both generations, the verdict, and what got worse."""

from collections.abc import Iterator

from visualindex.api.gate import GateFigures, GateReport, WorseQuery
from visualindex.cli.index_pages import table

_COPIES = {"encoded": "changed pictures", "perturbed": "changed vectors"}


def page(report: GateReport) -> str:
    """Everything a report says."""
    return "\n".join(
        [*_head(report), "", _figures(report), *_changes(report), *_failures(report), *_worse(report)]
    )


def _head(report: GateReport) -> Iterator[str]:
    yield f"verdict      {report.verdict}"
    against = "no generation was active" if report.active is None else f"{report.compared} of them in both"
    yield f"probes       {report.probes} images, {against}; copies are {_COPIES[report.copies]}"
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
    yield f"{report.worse_count} searches got worse, the worst first:"
    head = ("image", "rank before", "rank after", "recall", "overlap", "precision before", "precision after")
    known = report.active is not None and report.active.self_first is not None
    yield table(head, [_query(one, known) for one in report.worse])


def _query(one: WorseQuery, known: bool) -> tuple[str, ...]:
    """A line; `known`: the active generation was asked for the same copies."""
    return (
        str(one.image_id),
        _rank(one.rank_before) if known else "",
        _rank(one.rank_after),
        *map(_share, (one.recall, one.overlap, one.precision_before, one.precision_after)),
    )


def _rank(rank: int | None) -> str:
    return ">10" if rank is None else str(rank)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
