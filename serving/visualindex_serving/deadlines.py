"""Deadlines: points in time (seconds since the epoch) set at the gateway and carried by every call."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from visualindex import catalog
from visualindex.errors import ProblemError, ProblemType

T = TypeVar("T")


def deadline_in(milliseconds: float) -> float:
    """The deadline that lies `milliseconds` ahead."""
    return time.time() + milliseconds / 1000


def remaining(deadline: float) -> float:
    """Seconds left, 0 when the deadline has passed."""
    return max(0.0, deadline - time.time())


def monotonic(deadline: float) -> float:
    """The same deadline on this process's monotonic clock."""
    return time.monotonic() + remaining(deadline)


def exceeded(what: str) -> ProblemError:
    """The problem of a deadline that passed while doing `what`."""
    return ProblemError(ProblemType.DEADLINE_EXCEEDED, f"The deadline passed while {what}.", retry_after_s=1)


async def within(deadline: float, what: str, awaitable: Awaitable[T]) -> T:
    """Await under the deadline. Raises ProblemError DEADLINE_EXCEEDED naming `what` took too long."""
    try:
        async with asyncio.timeout(remaining(deadline)):
            with catalog.within(remaining(deadline)):
                return await awaitable
    except TimeoutError as exc:
        raise exceeded(what) from exc
