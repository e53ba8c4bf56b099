"""Asking again what is away for a while: a job of days outlives a store or a database that is away for minutes."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from visualindex.errors import ProblemError, ProblemType

PATIENCE_S = 300.0
"""Seconds for which a store that cannot be used is asked again, at growing intervals."""
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 20.0
_WORTH_WAITING = (ProblemType.UNAVAILABLE, ProblemType.DEADLINE_EXCEEDED, ProblemType.OVERLOADED)
T = TypeVar("T")


async def patiently(
    work: Callable[[], Awaitable[T]],
    patience_s: float,
    note: Callable[[BaseException | None], None] = lambda _: None,
) -> T:
    """The result of `work`, begun again while it is answered that something is away; `note` is told of each time.

    Raises what `work` raised last when `patience_s` seconds are over.
    """
    # Of a million reads hardly one is repeated, and what counts repetitions costs more than reading a small file.
    try:
        return await work()
    except ProblemError as problem:
        if not _may_heal(problem):
            raise
        note(problem)
    await asyncio.sleep(random.uniform(0, _FIRST_WAIT_S))  # noqa: S311 - no secret
    return await _again(work, patience_s, note)


async def _again(
    work: Callable[[], Awaitable[T]], patience_s: float, note: Callable[[BaseException | None], None]
) -> T:
    def before(state: RetryCallState) -> None:
        note(state.outcome.exception() if state.outcome else None)

    async def once() -> T:
        return await work()

    attempts = AsyncRetrying(
        stop=stop_after_delay(patience_s),
        wait=wait_random_exponential(multiplier=2 * _FIRST_WAIT_S, max=_LONGEST_WAIT_S),
        retry=retry_if_exception(_may_heal),
        before_sleep=before,
        reraise=True,
    )
    result: T = await attempts(once)
    return result


def _may_heal(error: BaseException) -> bool:
    return isinstance(error, ProblemError) and error.type in _WORTH_WAITING
