"""The one way our applications get onto a shared cluster: read, merge, write, and read again to see that it held.

Ray's API has no compare-and-set. Our own writers take turns (ClusterLocks); another program that writes between our reading
and our writing can be overwritten, or overwrite us. The second is seen by the reading after the writing, and repaired. Of
the first, an application that was new is seen and logged; a changed setting of a foreign application is not seen.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tenacity import (
    AsyncRetrying,
    RetryError,
    retry_if_result,
    stop_after_attempt,
    wait_chain,
    wait_none,
    wait_random,
)

from visualindex_operator.cluster_locks import ClusterLocks
from visualindex_operator.serve_api import ServeAPI
from visualindex_operator.serve_merge import merged, overwritten, unsettled
from visualindex_operator.serve_problems import ClusterRefused
from visualindex_operator.serve_state import ServeState

logger = logging.getLogger(__name__)

_WRITES = 3


async def converge(
    api: ServeAPI, locks: ClusterLocks, ours: Sequence[Mapping[str, Any]], gone: Mapping[str, str]
) -> ServeState:
    """Bring `ours` onto the cluster, take `gone` (application → its owner) off it, and return the state that was seen then.

    Writes nothing when all is as wanted. Raises ClusterUnreachable, ClusterRefused or NameTaken.
    """
    async with locks.of(api.address):
        return await _Writer(api, ours, gone).run()


class _Writer:
    def __init__(self, api: ServeAPI, ours: Sequence[Mapping[str, Any]], gone: Mapping[str, str]) -> None:
        self._api, self._ours, self._gone = api, ours, gone
        self._seen: ServeState | None = None
        self._writes = 0

    async def run(self) -> ServeState:
        retrying = AsyncRetrying(
            retry=retry_if_result(lambda settled: settled is None),
            stop=stop_after_attempt(_WRITES + 1),
            wait=wait_chain(wait_none(), wait_random(0.1, 1.0)),
        )
        try:
            settled: ServeState = await retrying(self._look_and_write)
        except RetryError:
            raise self._contested() from None
        return settled

    async def _look_and_write(self) -> ServeState | None:
        """The state when it is as wanted; otherwise None, after writing unless that was done too often."""
        state = await self._api.read()
        if self._seen is not None:
            self._tell_of_the_overwritten(self._seen, state)
        self._seen = state
        config = merged(state, self._ours, self._gone)
        if config is None:
            return state
        if self._writes < _WRITES:
            self._writes += 1
            await self._api.write(config)
        return None

    def _tell_of_the_overwritten(self, before: ServeState, after: ServeState) -> None:
        for name in overwritten(before, after):
            logger.warning(
                "The application %s was deployed to %s while we were writing, and was deleted by that: deploy it again.",
                name,
                self._api.address,
            )

    def _contested(self) -> ClusterRefused:
        names = ", ".join(unsettled(self._seen or ServeState(), self._ours, self._gone))
        return ClusterRefused(
            f"The Ray cluster {self._api.address} does not keep what is written to it ({names}): another program states "
            "its whole Serve configuration too. Let that program keep applications it does not know, or use a cluster "
            "of your own."
        )
