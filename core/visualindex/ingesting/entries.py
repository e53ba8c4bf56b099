"""What a source yields: pictures to come, and what is no picture."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from visualindex.api.images import ImageFields
from visualindex.errors import ProblemError
from visualindex.objectstore.sources import Content


@dataclass(frozen=True)
class ObjectRef:
    """The object that a picture is, as it was listed."""

    place: str
    key: str
    etag: str


@dataclass(frozen=True)
class Entry:
    """A picture that a source names. `whole` says that its fields are all that is to be said of it: others are cleared."""

    place: str
    """Where it was named, for messages: an object, or a manifest with its row."""
    fields: ImageFields
    read: Callable[[], Awaitable[Content]]
    whole: bool = True
    object: ObjectRef | None = None


@dataclass(frozen=True)
class Refusal:
    """An entry that is not taken in, and why."""

    place: str
    key: str | None
    problem: ProblemError

    def document(self) -> dict[str, Any]:
        """As JSON."""
        reason = self.problem.detail
        return {"place": self.place, "key": self.key, "type": self.problem.type.value.slug, "reason": reason}


@dataclass(frozen=True)
class Step:
    """An entry, and the cursor behind it."""

    entry: Entry | Refusal
    cursor: str


class Source(Protocol):
    """Entries in an order that is the same each time."""

    @property
    def total(self) -> int:
        """How many entries there are; 0 when that is not known."""

    def steps(self, after: str) -> AsyncIterator[Step]:
        """The entries behind a cursor; the empty one is before the first."""
