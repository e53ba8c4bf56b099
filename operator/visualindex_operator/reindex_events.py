"""Events about rebuilds: begun, begun again after a run that came to nothing, and ended."""

from collections.abc import Iterator

from visualindex.spec.status import ReindexStatus
from visualindex_operator.reasons import EventReason

_ENDED = {
    "done": ("Normal", EventReason.REINDEX_FINISHED),
    "failed": ("Warning", EventReason.REINDEX_FAILED),
    "cancelled": ("Normal", EventReason.REINDEX_CANCELLED),
}


def reindex_events(
    before: ReindexStatus | None, now: ReindexStatus | None
) -> Iterator[tuple[str, EventReason, str]]:
    """Kind, reason and message of each event."""
    before, now = before or ReindexStatus(), now or ReindexStatus()
    if (
        now.last is not None
        and (before.last is None or before.last.job != now.last.job)
        and _is_news(before, now)
    ):
        kind, reason = _ENDED[now.last.state]
        yield kind, reason, f"job {now.last.job}: {now.last.outcome or now.last.state}"
    if now.job and now.started_at and (before.job != now.job or not before.started_at):
        where = f" in {now.run}" if now.run else ""
        yield "Normal", EventReason.REINDEX_STARTED, f"job {now.job} is begun{where}"
    elif now.job and now.job == before.job and before.run and now.run and now.run != before.run:
        yield (
            "Warning",
            EventReason.REINDEX_REPEATED,
            f"{before.run} did not end its job: it goes on in {now.run}",
        )


def _is_news(before: ReindexStatus, now: ReindexStatus) -> bool:
    """One that ended before anybody looked for the first time is none."""
    return now.last is not None and (before.last is not None or before.job == now.last.job)
