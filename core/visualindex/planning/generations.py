"""What `status.generation` says of the generations that the database has."""

from datetime import UTC, datetime
from typing import Literal, cast

from visualindex.planning.observations import Generation, MemberObserved
from visualindex.spec.status import GenerationStatus, NextGeneration

_LEFT = "the index was rolled back from it: nothing is folded by itself until a later generation is activated"


def generation_status(seen: MemberObserved) -> GenerationStatus | None:
    """The served generation and the one after it; None while the database does not tell."""
    if seen.generations is None:
        return None
    served, following = seen.generation, seen.next_generation
    after = None if following is None else _next(following)
    if served is None:
        return GenerationStatus(next=after)
    return GenerationStatus(
        id=served.id, recall=served.measured, created_at=_text(served.created), next=after
    )


def _next(one: Generation) -> NextGeneration:
    state = cast("Literal['ready', 'preparing', 'failed', 'kept']", one.state)
    problem = one.problem or (_LEFT if state == "kept" else "")
    return NextGeneration(id=one.id, state=state, recall=one.measured, problem=problem)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
