"""What a replica does about a part that is away when it starts: it waits, instead of failing.

Serve gives a deployment up for good after a few failed starts, and nobody would start it again when the part is back.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from visualindex.errors import ProblemError, ProblemType

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_AWAY = (ProblemType.UNAVAILABLE, ProblemType.DEADLINE_EXCEEDED)
_LONGEST_PAUSE_S = 1.0
_QUIET_TRIES = 4


async def once_there(what: str, use: Callable[[], Awaitable[_T]]) -> _T:
    """The result of `use()`, tried until what it needs is there. Every other problem is raised at once."""
    retrying = AsyncRetrying(
        retry=retry_if_exception(_is_away),
        wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_PAUSE_S),
        before_sleep=lambda state: _say(what, state),
        reraise=True,
    )
    return await retrying(use)


def _is_away(error: BaseException) -> bool:
    return isinstance(error, ProblemError) and error.type in _AWAY


def _say(what: str, state: RetryCallState) -> None:
    """Ever more rarely: at the 4th, 8th, 16th, … try."""
    tries = state.attempt_number
    if tries >= _QUIET_TRIES and tries.bit_count() == 1 and state.outcome is not None:
        logger.warning("waiting for %s: %s", what, state.outcome.exception())
