"""When the daemons of a group look again: at a change of anything of the group, and when some time has passed."""

import asyncio
import contextlib
from collections.abc import Iterable

from visualindex_operator import names
from visualindex_operator.live import Object
from visualindex_operator.members import GroupKey

_TOGETHER_S = 0.3
"""What is written at once comes back as several changes: one look is enough for them."""


class Wakes:
    """Tells the daemons of a group that something about it changed."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, str], asyncio.Event] = {}

    def wake(self, namespace: str, label: str) -> None:
        """Have the group whose children carry this cluster label looked at now."""
        if (change := self._next.pop((namespace, label), None)) is not None:
            change.set()

    def next_change(self, key: GroupKey) -> asyncio.Event:
        """Set at the next wake of a group. Who asks for it before a look misses nothing that changes meanwhile."""
        return self._next.setdefault((key[0], names.cluster_label(key[2])), asyncio.Event())


async def within(change: asyncio.Event, seconds: float) -> None:
    """Returns soon after a change, or after `seconds`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(change.wait(), seconds)
        await asyncio.sleep(min(_TOGETHER_S, seconds))


def looks_for_all(body: Object, members: Iterable[Object]) -> bool:
    """Whether it is this resource's daemon that looks at the group: one look serves all of its resources."""
    staying = [one["metadata"]["name"] for one in members if "deletionTimestamp" not in one["metadata"]]
    return not staying or body["metadata"]["name"] == min(staying)
