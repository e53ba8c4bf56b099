"""What could not be written, index by index: the trouble of one must not keep the others from being seen to."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from visualindex.planning.conditions import not_applied, stamped
from visualindex.planning.observations import Member
from visualindex.planning.plan import Action, AskReindex, Migrate, Serve
from visualindex.planning.reindexing import BeginReindex, EndReindexRun, FailReindex
from visualindex.spec.status import Status
from visualindex_operator.kube import KubeError

_MOST = 500


class Failures:
    """Those of one look at a group."""

    def __init__(self) -> None:
        self._by_index: dict[str, KubeError] = {}
        self._first: KubeError | None = None

    @contextmanager
    def of(self, indexes: Collection[str]) -> Iterator[None]:
        """Notes a KubeError of the block for these indexes, and goes on after it."""
        try:
            yield
        except KubeError as error:
            self._by_index.update(dict.fromkeys(indexes, error))
            self._first = self._first or error

    def told(self, member: Member, status: Status, refusal: str = "") -> Status:
        """The status that tells what failed, or what an external cluster refused: then `applied` is as it was."""
        error = self._by_index.get(member.name)
        if error is not None:
            why = f"the API server did not take what was written: {error}"[:_MOST]
            found = stamped(
                not_applied(status.conditions, why),
                member.status.conditions,
                member.generation,
                datetime.now(UTC),
            )
            return status.model_copy(update={"conditions": found, "applied": member.status.applied})
        return status.model_copy(update={"applied": member.status.applied}) if refusal else status

    def raise_first(self) -> None:
        """Raises the first of them, so that the look is repeated and told of."""
        if self._first is not None:
            raise self._first


def affected(action: Action) -> list[str]:
    """The indexes that an action is for."""
    match action:
        case Migrate():
            return [action.index]
        case Serve():
            return [one.name for one in action.served]
        case AskReindex() | BeginReindex() | EndReindexRun() | FailReindex():
            return [action.index]
        case _:
            return []
