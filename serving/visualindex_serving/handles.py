"""Calls through Serve handles: under a deadline, and once more when the replica died under the call."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import RayTaskError

from visualindex.errors import ProblemError
from visualindex_serving.deadlines import exceeded, remaining


def problem_in(error: BaseException) -> ProblemError | None:
    """The ProblemError a replica raised, out of Ray's wrapping."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, RayTaskError) and isinstance(error.cause, ProblemError):
        return error.cause
    return None


async def call_twice(call: Callable[[], Awaitable[Any]], deadline: float, what: str) -> Any:
    """Await a remote call under the deadline; repeat it once if its replica died. Raises ProblemError."""
    for last in (False, True):
        try:
            async with asyncio.timeout(remaining(deadline)):
                return await call()
        except TimeoutError as exc:
            raise exceeded(what) from exc
        except Exception as exc:
            problem = problem_in(exc)
            if problem is not None:
                raise problem from exc
            if last:
                raise
    raise AssertionError("unreachable")
