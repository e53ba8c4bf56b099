"""Events about generations: what became of the one that is served, and of the one that is to follow it."""

from collections.abc import Iterator
from datetime import datetime

from visualindex.spec.status import GenerationStatus
from visualindex_operator.reasons import EventReason


def generation_events(
    before: GenerationStatus | None, now: GenerationStatus | None
) -> Iterator[tuple[str, EventReason, str]]:
    """Kind, reason and message of each event; none where no status remembers what was before."""
    if before is None or now is None:
        return
    if now.id and now.id != before.id:
        measured = f", recall@10 {now.recall}" if now.recall else ""
        if _is_older(now, before):
            yield (
                "Normal",
                EventReason.ROLLED_BACK,
                f"generation {now.id}{measured} is served again after {before.id}",
            )
        else:
            yield "Normal", EventReason.ACTIVATED, f"generation {now.id}{measured} is served"
    following = now.next
    if following is None or following == before.next:
        return
    if following.state == "failed":
        message = f"generation {following.id} could not be activated: {following.problem}"
        yield "Warning", EventReason.ACTIVATION_FAILED, message
    elif following.state == "ready" and following.problem:
        message = f"generation {following.id} is not activated: {following.problem}"
        yield "Warning", EventReason.GENERATION_REFUSED, message


def _is_older(now: GenerationStatus, before: GenerationStatus) -> bool:
    if not (now.created_at and before.created_at):
        return False
    return datetime.fromisoformat(now.created_at) < datetime.fromisoformat(before.created_at)
