"""When a second replica of a shard is asked the same: soon after the first is slower than searches there usually are.

As in "The Tail at Scale" (Dean and Barroso, 2013): after the 95th percentile of recent searches, which costs few requests
more and cuts the tail that one slow replica gives to all.
"""

import math
from collections import deque
from collections.abc import Callable

_QUANTILE = 0.95
_SOONEST_S = 0.01
"""What is over within this is never asked twice: a moment without the processor takes as long."""
_RECENT = 256
_ENOUGH = 64
_EACH = 32
"""Searches after which the quantile is taken again."""
_SHARE = 0.05
"""Further requests, of all searches: where every replica is slow, they would make them slower still."""
_SAVED = 10.0
"""Further requests that may be made at once after a time without any."""


class Hedging:
    """What is known of one shard's searches."""

    def __init__(self, replicas: Callable[[], int]) -> None:
        """`replicas` tells how many there are to be asked."""
        self._replicas = replicas
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._counted = 0
        self._usual_s = math.inf
        self._saved = _SAVED

    @property
    def after_s(self) -> float:
        """How long to wait for the first replica; infinite where a second request would help nobody, or costs too much."""
        if self._saved < 1 or self._replicas() < 2:
            return math.inf
        return max(_SOONEST_S, self._usual_s)

    def asked(self) -> None:
        """A search begins."""
        self._saved = min(_SAVED, self._saved + _SHARE)

    def hedged(self) -> None:
        """A second replica was asked early."""
        self._saved -= 1

    def took(self, seconds: float) -> None:
        """A replica has answered, so long after it was asked."""
        self._recent.append(seconds)
        self._counted += 1
        if self._counted >= _ENOUGH and self._counted % _EACH == 0:
            self._usual_s = sorted(self._recent)[int(_QUANTILE * len(self._recent))]
