"""Reorders candidates: gathers the searches that wait, reads the patches of all of them at once, scores one by one.

Reading is what a batch shares; the scoring of one search has nothing in common with another's.
"""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from visualindex.errors import ProblemError, ProblemType
from visualindex.rerank.cross_scorer import CrossScorer
from visualindex.rerank.fusion import Fusion, Signal
from visualindex.rerank.geometry import Pixels, inliers, keypoints
from visualindex.rerank.maxsim import maxsim
from visualindex.rerank.patches import Packed, packed_row
from visualindex.rerank.profile import Profile
from visualindex_serving.deadlines import exceeded, remaining
from visualindex_serving.rerank_messages import RerankAnswer, RerankQuery
from visualindex_serving.rerank_source import PatchSource

logger = logging.getLogger(__name__)

MAX_QUEUED = 128
_BATCH = 16
CROSS = "cross"


@dataclass(eq=False)
class _Request:
    query: RerankQuery
    answer: "asyncio.Future[RerankAnswer]"

    @property
    def alive(self) -> bool:
        """Whether anyone still waits for it."""
        return not self.answer.done() and remaining(self.query.deadline) > 0


class Reranker:
    """Serves one index from one event loop; scores on one thread of its own."""

    def __init__(
        self, source: PatchSource, scorer: CrossScorer | None = None, *, scorer_weight: float = 1.0
    ) -> None:
        self._source = source
        self._scorer = scorer
        self._scorer_weight = scorer_weight
        self._queue: deque[_Request] = deque()
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rerank")

    async def rerank(self, query: RerankQuery) -> RerankAnswer:
        """Reorder the candidates of one search.

        Raises ProblemError OVERLOADED when too many wait, DEADLINE_EXCEEDED, or whatever reading the patches raises.
        """
        if len(self._queue) >= MAX_QUEUED:
            raise ProblemError(
                ProblemType.OVERLOADED, "Too many searches wait to be reranked.", retry_after_s=1
            )
        request = _Request(query, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._work())
        try:
            async with asyncio.timeout(remaining(query.deadline)):
                return await request.answer
        except TimeoutError:
            raise exceeded("reranking") from None

    async def verify(self, query: Pixels, candidates: Sequence[Pixels | None], deadline: float) -> list[int]:
        """How many features of `query` agree with each candidate by one homography; 0 for one without a picture."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(remaining(deadline)):
                return await loop.run_in_executor(self._thread, _agreeing, query, candidates, deadline)
        except TimeoutError:
            raise exceeded("verifying copies") from None

    def close(self) -> None:
        """End what runs; whoever waits is told by its deadline."""
        if self._running is not None:
            self._running.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        while self._queue:
            taken = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]
            await self._batch([request for request in taken if request.alive])

    async def _batch(self, requests: list[_Request]) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await self._read(requests)
        except Exception as e:  # every caller of the batch must hear of it
            for request in requests:
                _fail(request, e)
            return
        for request in requests:
            if not request.alive:
                continue
            patches = found[request.query.features]
            try:
                answer = await loop.run_in_executor(self._thread, self._scored, request.query, patches)
            except Exception as e:  # a scorer of the user's own may raise anything
                _fail(request, e)
                continue
            if not request.answer.done():
                request.answer.set_result(answer)

    async def _read(self, requests: list[_Request]) -> dict[str, Mapping[uuid.UUID, bytes]]:
        """By features: during an upgrade gateways of two encoders may ask."""
        wanted: dict[str, dict[uuid.UUID, int]] = {}
        for query in (request.query for request in requests):
            mine = wanted.setdefault(query.features, {})
            if query.image is not None:
                mine.setdefault(uuid.UUID(bytes=query.image), 0)
            for row, version in zip(query.ids, query.versions.tolist(), strict=True):
                image_id = uuid.UUID(bytes=row.tobytes())
                mine[image_id] = max(version, mine.get(image_id, 0))
        return {features: await self._source.of(images, features) for features, images in wanted.items()}

    def _scored(self, query: RerankQuery, found: Mapping[uuid.UUID, bytes]) -> RerankAnswer:
        own = query.patches if query.image is None else found.get(uuid.UUID(bytes=query.image))
        rows = [found.get(uuid.UUID(bytes=row.tobytes())) for row in query.ids]
        places = [place for place, row in enumerate(rows) if row is not None]
        if own is None or not places:
            order = np.arange(len(rows), dtype=np.int64)
            return RerankAnswer(order, query.scores, len(places), own is not None)
        asked, candidates = packed_row(own), _stacked([row for row in rows if row is not None])
        signals = {"maxsim": _placed(maxsim(asked, candidates), places, len(rows))}
        if self._scorer is not None:
            signals[CROSS] = _placed(self._scorer.scores(asked, candidates), places, len(rows))
        fused = self._fusion(query).fused(query.scores, signals)
        order = np.argsort(-fused, kind="stable")
        return RerankAnswer(order, fused[order], len(places), True)

    def _fusion(self, query: RerankQuery) -> Fusion:
        """The fitted weights; the defaults where none were fitted, on these features."""
        fitted = None if query.profile is None else Profile.from_json(query.profile)
        fusion = fitted.fusion if fitted is not None and fitted.features == query.features else Fusion()
        if self._scorer is None or CROSS in fusion.weights:
            return fusion
        return Fusion({**fusion.weights, CROSS: self._scorer_weight})


def _stacked(rows: Sequence[bytes]) -> Packed:
    packed = [packed_row(row) for row in rows]
    return Packed(np.concatenate([p.codes for p in packed]), np.concatenate([p.scales for p in packed]))


def _placed(scores: Signal, places: Sequence[int], count: int) -> Signal:
    """Scores of some candidates among all of them, NaN for the others."""
    whole = np.full(count, np.nan, np.float32)
    whole[list(places)] = scores
    return whole


def _agreeing(query: Pixels, candidates: Sequence[Pixels | None], deadline: float) -> list[int]:
    ours = keypoints(query)
    counts = []
    for candidate in candidates:
        if remaining(deadline) <= 0:
            raise exceeded("verifying copies")
        counts.append(0 if candidate is None else inliers(ours, keypoints(candidate)))
    return counts


def _fail(request: _Request, cause: Exception) -> None:
    if request.answer.done():
        return
    if not isinstance(cause, ProblemError):
        logger.error("reranking failed", exc_info=cause)
        cause = ProblemError(ProblemType.INTERNAL, f"Reranking failed: {type(cause).__name__}.")
    request.answer.set_exception(cause)
