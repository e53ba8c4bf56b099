"""One search asked of every shard in parallel, under one deadline, and the answers merged."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from visualindex.ann import Hits
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.deadlines import remaining
from visualindex_serving.hedging import Hedging
from visualindex_serving.merging import Whole, merged
from visualindex_serving.messages import ShardAnswer, ShardQuery

logger = logging.getLogger(__name__)

_HEDGE_SHARE = 0.5
_LATE = ProblemType.DEADLINE_EXCEEDED.value.title
_MISSING = (ProblemType.DEADLINE_EXCEEDED, ProblemType.UNAVAILABLE, ProblemType.OVERLOADED)
"""Problems of one shard that leave the answer of the others worth having; any other is the request's own."""


class ShardCall(Protocol):
    """Asks one shard: over the network in production, in process in tests."""

    async def __call__(self, query: ShardQuery) -> ShardAnswer: ...


@runtime_checkable
class ReplicatedCall(ShardCall, Protocol):
    """A way that knows how many replicas it may ask."""

    @property
    def replicas(self) -> int:
        """Those that can be asked now."""


@dataclass(frozen=True)
class ShardReport:
    """What one shard did for a search. `error` is for callers: the reason without its details, which the log has."""

    shard: int
    answer: ShardAnswer | None
    took_ms: float
    error: str | None = None


@dataclass(frozen=True)
class Merged:
    """The merged hits of all shards that answered; `complete` is False when one did not, or does not hold all its images."""

    whole: Whole
    reports: list[ShardReport]

    @property
    def hits(self) -> Hits:
        """The hits of all shards that answered."""
        return self.whole.hits

    @property
    def generation(self) -> str:
        """What was searched: the same in every shard."""
        return next(report.answer.generation for report in self.reports if report.answer is not None)

    @property
    def age_s(self) -> float:
        """How long ago the shard that is furthest behind looked into the change log."""
        return max(report.answer.age_s for report in self.reports if report.answer is not None)

    @property
    def missing(self) -> list[int]:
        """The shards that did not answer."""
        return [report.shard for report in self.reports if report.answer is None]

    @property
    def full(self) -> list[int]:
        """The shards that answered without images that do not fit into their memory."""
        return [report.shard for report in self.reports if report.answer is not None and report.answer.full]

    @property
    def complete(self) -> bool:
        """Whether every shard answered, of all its images."""
        return not self.missing and not self.full


class Fanout:
    """Searches all shards of one index."""

    def __init__(self, shards: list[ShardCall]) -> None:
        self._shards = [(call, Hedging(partial(_replicas, call))) for call in shards]

    async def search(self, query: ShardQuery) -> Merged:
        """Ask all shards.

        Raises ProblemError when none answered, one could not catch up with the token, or (CONFLICT) one has let go of
        the query's generation.
        """
        asking = [self._ask(shard, *way, query) for shard, way in enumerate(self._shards)]
        reports = [await asking[0]] if len(asking) == 1 else await asyncio.gather(*asking)
        answers = [report.answer for report in reports if report.answer is not None]
        if not answers:
            raise _none_answered(reports)
        behind = [a.behind_s for a in answers if a.behind_s is not None]
        if behind:
            raise _behind(max(behind))
        return Merged(merged(query, answers), reports)

    async def _ask(self, shard: int, call: ShardCall, hedging: Hedging, query: ShardQuery) -> ShardReport:
        start = time.perf_counter()
        try:
            answer = await _answer(call, hedging, query)
        except Exception as exc:
            if isinstance(exc, ProblemError) and exc.type not in _MISSING:
                raise
            level = logging.DEBUG if query.background else logging.WARNING
            logger.log(level, "shard %d did not answer: %s: %s", shard, type(exc).__name__, exc)
            return ShardReport(shard, None, _since(start), _outside(exc))
        return ShardReport(shard, answer, _since(start))


def _replicas(call: ShardCall) -> int:
    return call.replicas if isinstance(call, ReplicatedCall) else 1


async def _answer(call: ShardCall, hedging: Hedging, query: ShardQuery) -> ShardAnswer:
    """What nobody waits for is asked of one replica alone; what waits for a write says nothing of how slow a replica is."""
    if query.strong or query.token is not None:
        return await _hedged(lambda: _twice(call, query), query.deadline)
    if not query.background:
        return await _hedged(lambda: _timed(call, hedging, query), query.deadline, hedging)
    async with asyncio.timeout(remaining(query.deadline)):
        return await call(query)


async def _timed(call: ShardCall, hedging: Hedging, query: ShardQuery) -> ShardAnswer:
    start = time.perf_counter()
    answer = await _twice(call, query)
    hedging.took(time.perf_counter() - start)
    return answer


async def _twice(call: ShardCall, query: ShardQuery) -> ShardAnswer:
    """Ask again once when the replica died under the call: another replica, or its successor, may answer."""
    try:
        return await call(query)
    except (ProblemError, asyncio.CancelledError):
        raise
    except Exception:
        if remaining(query.deadline) <= 0:
            raise
        await asyncio.sleep(0.01)
        return await call(query)


async def _hedged(
    ask: Callable[[], Coroutine[Any, Any, ShardAnswer]], deadline: float, hedging: Hedging | None = None
) -> ShardAnswer:
    """Ask a second replica when the first is silent for half the time left, as it may hang with its node; or, by `hedging`,
    when it is slower than usual.

    Raises TimeoutError when neither has answered by the deadline.
    """
    tasks = [asyncio.create_task(ask())]
    try:
        done, left = await _silent(tasks, remaining(deadline) * _HEDGE_SHARE, hedging)
        if not done:
            tasks.append(asyncio.create_task(ask()))
            soonest = asyncio.FIRST_COMPLETED
            done, left = await asyncio.wait(tasks, timeout=remaining(deadline), return_when=soonest)
        if left and all(task.exception() is not None for task in done):
            done, _ = await asyncio.wait(left, timeout=remaining(deadline))
        if not done:
            raise TimeoutError
        answered = [task for task in done if task.exception() is None]
        return (answered or list(done))[0].result()
    finally:
        for task in tasks:
            task.cancel()


async def _silent(
    tasks: "list[asyncio.Task[ShardAnswer]]", latest_s: float, hedging: Hedging | None
) -> tuple["set[asyncio.Task[ShardAnswer]]", "set[asyncio.Task[ShardAnswer]]"]:
    """What is done and what is left when it is time to ask a second replica, or before."""
    if hedging is None:
        return await asyncio.wait(tasks, timeout=latest_s)
    hedging.asked()
    after_s = hedging.after_s
    done, left = await asyncio.wait(tasks, timeout=min(after_s, latest_s))
    if not done and after_s < latest_s:
        hedging.hedged()
    return done, left


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def _outside(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return _LATE
    if isinstance(exc, ProblemError):
        return _LATE if exc.type is ProblemType.DEADLINE_EXCEEDED else exc.type.value.title
    return ProblemType.UNAVAILABLE.value.title


def _none_answered(reports: list[ShardReport]) -> ProblemError:
    if all(report.error == _LATE for report in reports):
        return ProblemError(
            ProblemType.DEADLINE_EXCEEDED, "No shard answered before the deadline.", retry_after_s=1
        )
    return ProblemError(
        ProblemType.UNAVAILABLE, "No shard of this index is available right now; try again.", retry_after_s=1
    )


def _behind(age_s: float) -> ProblemError:
    detail = f"The index has not reached the token's write yet: its view is {age_s * 1000:.0f} ms old."
    return ProblemError(
        ProblemType.NOT_ACCEPTABLE_YET, detail, retry_after_s=1, extra={"behind_ms": age_s * 1000}
    )
