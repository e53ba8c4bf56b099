"""The gateway's part of reranking: whether a search wants it, and the asking, which may fail without the search failing."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from visualindex.api.images import RerankView
from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.geometry import verified_first
from visualindex.rerank.profile import Profile
from visualindex.spec import RerankSpec
from visualindex_serving.deadlines import remaining
from visualindex_serving.rerank_messages import RerankAnswer, RerankQuery
from visualindex_serving.result_page import Page
from visualindex_serving.vision import BoxTuple

logger = logging.getLogger(__name__)

Asked = bool | Literal["auto", "exact"]
ReadProfile = Callable[[], Awaitable[dict[str, Any] | None]]

VERIFIED = 10
"""Hits of an exact search that are verified by geometry."""
_PROFILE_S = 30.0
_DEADLINE_SHARE = 0.6
"""Of what is left of a search's deadline: metadata is still to be fetched."""


class Rerankers(Protocol):
    """The rerankers of an index: over Serve's handles in production, in process in tests."""

    async def rerank(self, query: RerankQuery) -> RerankAnswer:
        """See `Reranker.rerank`."""

    async def verify(self, query: bytes, candidates: list[bytes | None], deadline: float) -> list[int]:
        """See `RerankReplica.verify`."""


class Pictures(Protocol):
    """Thumbnails for geometric verification."""

    async def of_upload(self, data: bytes, deadline: float) -> bytes:
        """The thumbnail of a picture that came with the search."""

    async def of_images(self, images: Sequence[uuid.UUID], versions: Sequence[int]) -> list[bytes | None]:
        """The thumbnails of indexed images; None for one that is gone."""


@dataclass(frozen=True)
class Likeness:
    """What a search has of its query picture: packed patches, or the indexed image that it is; `data` is its file."""

    patches: bytes | None = None
    image: uuid.UUID | None = None
    data: bytes | None = None
    box: BoxTuple | None = None


NO_LIKENESS = Likeness()


@dataclass(frozen=True)
class Wish:
    """What becomes of a search's first hits: how many are reordered (0: none, for `reason`), and whether copies are
    verified."""

    candidates: int = 0
    exact: bool = False
    reason: str | None = None
    profile: dict[str, Any] | None = None


class Reranking:
    """Reranks the searches of one index. Without rerankers it only says that it does not."""

    def __init__(
        self,
        spec: RerankSpec,
        features: str | None,
        rerankers: Rerankers | None,
        read_profile: ReadProfile | None,
        pictures: Pictures | None,
    ) -> None:
        self._spec = spec
        self.features = features
        self._rerankers = rerankers
        self._read_profile = read_profile
        self._pictures = pictures
        self._profile: dict[str, Any] | None = None
        self._profile_read = -_PROFILE_S

    @property
    def kept(self) -> bool:
        """Whether this index keeps patches."""
        return self.features is not None

    def view(self, document: Mapping[str, Any] | None) -> RerankView:
        """What callers are told of reranking and of its measurement."""
        profile = None if document is None else Profile.from_json(document)
        if not self.kept or profile is None or profile.features != self.features:
            return RerankView(mode=self._spec.mode, on=self._spec.mode == "always")
        gain = profile.verdict.get("gain") or {}
        return RerankView(
            mode=self._spec.mode,
            on=self._spec.mode == "always" or profile.on,
            gain=gain.get("mean"),
            lower_bound=gain.get("low"),
            weight=profile.fusion.weights.get("maxsim"),
            reason=profile.verdict.get("reason"),
        )

    def packed(self, patches: bytes | None) -> Mapping[str, bytes]:
        """What a write keeps of a picture's patches."""
        return {} if self.features is None or patches is None else {self.features: patches}

    async def wish(self, asked: Asked, likeness: Likeness) -> Wish:
        """What a first page does, by the request, the spec and what was measured on the index."""
        if asked is False:
            return Wish()
        if not self.kept:
            off = "reranking is off for this index (spec.rerank.mode)"
            return Wish(reason=None if asked == "auto" else off)
        if likeness.patches is None and likeness.image is None:
            return Wish(reason="a query vector has no picture to compare")
        if asked == "exact" and (refusal := self._no_exact(likeness)):
            return Wish(reason=refusal)
        profile = await self._measured()
        if asked == "auto" and self._spec.mode == "auto" and (refusal := self._unproven(profile)):
            return Wish(reason=refusal)
        return Wish(self._spec.candidates, exact=asked == "exact", profile=profile)

    async def reordered(
        self, wish: Wish, likeness: Likeness, page: Page, limit: int, deadline: float
    ) -> Page:
        """`page`, which holds up to max(limit, candidates) hits, reordered and cut to `limit`.

        Whatever goes wrong leaves the first stage's order, with the reason.
        """
        if not wish.candidates or not page.ids:
            return page.cut(limit, wish.reason)
        budget_s = self._spec.budget_ms / 1000
        until = time.time() + remaining(deadline) * _DEADLINE_SHARE
        try:
            async with asyncio.timeout(min(budget_s, remaining(until))):
                answer = await self._ask(wish, likeness, page, min(until, time.time() + budget_s))
            if not answer.query_known:
                return page.cut(limit, "the query's image has no patches yet: write it again")
            if not answer.known:
                return page.cut(limit, "no hit has patches yet: write the images again")
            if wish.exact:
                return await self._copies_first(likeness, page, answer, limit, until)
            return page.arranged(answer.order.tolist(), answer.scores.tolist(), limit, _coverage(answer))
        except Exception as exc:  # reranking is an improvement: no failure of it may be one of the search
            return page.cut(limit, self._failure(exc))

    async def _ask(self, wish: Wish, likeness: Likeness, page: Page, deadline: float) -> RerankAnswer:
        assert self._rerankers is not None  # noqa: S101 - there are some where patches are kept
        assert self.features is not None  # noqa: S101
        ids = page.ids[: wish.candidates]
        return await self._rerankers.rerank(
            RerankQuery(
                features=self.features,
                patches=likeness.patches,
                image=None
                if likeness.patches is not None or likeness.image is None
                else likeness.image.bytes,
                ids=np.frombuffer(b"".join(i.bytes for i in ids), np.uint8).reshape(-1, 16),
                scores=np.array(page.scores[: wish.candidates], np.float32),
                versions=np.array(page.versions[: wish.candidates], np.int64),
                profile=wish.profile,
                deadline=deadline,
            )
        )

    async def _copies_first(
        self,
        likeness: Likeness,
        page: Page,
        answer: RerankAnswer,
        limit: int,
        deadline: float,
    ) -> Page:
        """Verified copies of the query before the others; what is past the deadline stays as it was reranked."""
        order, by = answer.order.tolist(), answer.scores.tolist()
        first = order[:VERIFIED]
        try:
            async with asyncio.timeout(remaining(deadline)):
                counts = await self._agreeing(likeness, page, first, deadline)
        except Exception as exc:  # as above
            return page.arranged(order, by, limit, f"copies are not verified: {self._failure(exc)}")
        moved = [first[place] for place in verified_first(counts)]
        # `rerank_score` must fall along the page: a verified copy takes the score of the place it is moved to.
        return page.arranged([*moved, *order[VERIFIED:]], by, limit, _coverage(answer))

    async def _agreeing(
        self, likeness: Likeness, page: Page, places: list[int], deadline: float
    ) -> list[int]:
        assert self._pictures is not None  # noqa: S101 - there are some where patches are kept
        assert self._rerankers is not None  # noqa: S101
        theirs = self._pictures.of_images([page.ids[p] for p in places], [page.versions[p] for p in places])
        query, candidates = await asyncio.gather(self._query_picture(likeness, deadline), theirs)
        if query is None:
            raise ProblemError(ProblemType.IMAGE_NOT_FOUND, "The query's image is gone.")
        return await self._rerankers.verify(query, candidates, deadline)

    async def _query_picture(self, likeness: Likeness, deadline: float) -> bytes | None:
        assert self._pictures is not None  # noqa: S101
        if likeness.data is not None:
            return await self._pictures.of_upload(likeness.data, deadline)
        assert likeness.image is not None  # noqa: S101 - a search has one of the two
        return (await self._pictures.of_images([likeness.image], [0]))[0]

    async def _measured(self) -> dict[str, Any] | None:
        """The index's profile, at most half a minute old; an older one while the database does not answer."""
        if self._read_profile is not None and time.monotonic() - self._profile_read > _PROFILE_S:
            self._profile_read = time.monotonic()  # whoever comes meanwhile takes the one before
            try:
                self._profile = await self._read_profile()
            except ProblemError as problem:
                logger.warning("the rerank profile cannot be read: %s", problem)
        return self._profile

    def _unproven(self, document: dict[str, Any] | None) -> str | None:
        if document is None:
            return "not measured on this index yet (spec.rerank.mode: auto)"
        profile = Profile.from_json(document)
        if profile.features != self.features:
            return "measured for another encoder only (spec.rerank.mode: auto)"
        return None if profile.on else str(profile.verdict.get("reason", "measured as no gain"))

    def _no_exact(self, likeness: Likeness) -> str | None:
        if not self._spec.exact_image:
            return "this index verifies no copies (spec.rerank.exactImage)"
        if likeness.box is not None:
            return "exact compares whole pictures: leave out the box"
        return None

    def _failure(self, exc: Exception) -> str:
        if isinstance(exc, TimeoutError) or (
            isinstance(exc, ProblemError) and exc.type is ProblemType.DEADLINE_EXCEEDED
        ):
            return f"not ready within {self._spec.budget_ms} ms (spec.rerank.budgetMs)"
        logger.warning("a search is answered unreranked: %s: %s", type(exc).__name__, exc)
        return exc.type.value.title if isinstance(exc, ProblemError) else ProblemType.UNAVAILABLE.value.title


def _coverage(answer: RerankAnswer) -> str | None:
    """What is said where some candidates could not be compared: they stand by their first-stage score alone."""
    count = len(answer.order)
    return None if answer.known == count else f"{answer.known} of {count} candidates have patches"


NO_RERANKING = Reranking(RerankSpec(), None, None, None, None)
"""Of an index that keeps no patches."""
