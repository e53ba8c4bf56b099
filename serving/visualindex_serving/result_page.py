"""One page of hits, and what the page after it starts from."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from visualindex_serving.messages import Value

Pending = tuple[tuple[uuid.UUID, float], ...]
"""Reranked hits that are still to be shown, in their order, with what they were ordered by."""


@dataclass(frozen=True)
class Page:
    """The hits of one page, best first, and whether more may follow.

    `scores` are the first stage's. `reranked` holds what the first hits were ordered by; the hits beyond it stand in the
    first stage's order. `pending` comes next, and then the first stage goes on after `last`, its `taken` hits having been
    spent on this page and on `pending`.
    """

    ids: list[uuid.UUID]
    scores: list[float]
    versions: list[int]
    more: bool
    taken: int
    last: tuple[float, uuid.UUID] | None
    reranked: tuple[float, ...] = ()
    pending: Pending = ()
    reason: str | None = None
    last_key: Value | None = None
    """The value that sorted the last hit, where a field gives the order."""

    def cut(self, limit: int, reason: str | None = None) -> "Page":
        """The first `limit` hits as the first stage orders them; `reason` says why they were not reranked."""
        if len(self.ids) <= limit:
            return replace(self, reason=reason)
        return replace(
            self,
            ids=self.ids[:limit],
            scores=self.scores[:limit],
            versions=self.versions[:limit],
            more=True,
            taken=limit,
            last=(self.scores[limit - 1], self.ids[limit - 1]),
            reason=reason,
        )

    def arranged(self, order: Sequence[int], by: Sequence[float], limit: int, reason: str | None) -> "Page":
        """The first `limit` hits after the first ones were put into `order`; those that no longer fit are pending."""
        places = [*order, *range(len(order), len(self.ids))]
        shown, waiting = places[:limit], order[limit:]
        return replace(
            self,
            ids=[self.ids[place] for place in shown],
            scores=[self.scores[place] for place in shown],
            versions=[self.versions[place] for place in shown],
            more=self.more or bool(waiting),
            reranked=tuple(by[:limit]),
            pending=tuple((self.ids[place], by[limit + n]) for n, place in enumerate(waiting)),
            reason=reason,
        )
