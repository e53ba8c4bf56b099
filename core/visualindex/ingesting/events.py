"""What S3 buckets say of their objects, in the format that MinIO's webhook sends, too.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus

from visualindex.errors import ProblemError, ProblemType

MOST = 1_000
"""Records that one notification may have."""

_KINDS: dict[str, Literal["created", "removed"]] = {"ObjectCreated": "created", "ObjectRemoved": "removed"}


@dataclass(frozen=True)
class ObjectEvent:
    """An object was put or is gone; `sequencer` orders the events about one object, empty where the bucket gives none."""

    kind: Literal["created", "removed"]
    bucket: str
    key: str
    sequencer: str


def read_events(document: Mapping[str, Any]) -> list[ObjectEvent]:
    """The events of a notification; those of other kinds are left out.

    Raises ProblemError INVALID_REQUEST for a document that is no notification.
    """
    if document.get("Event") == "s3:TestEvent":
        return []
    records = document.get("Records")
    if not isinstance(records, list) or len(records) > MOST:
        detail = f"/Records: must be a list of at most {MOST} records, as S3 buckets send it"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)
    read = (_read(number, record) for number, record in enumerate(records))
    return [event for event in read if event is not None]


def is_later(sequencer: str, than: str) -> bool:
    """Whether an event is later than another about the same object; one without sequencer may always be.

    The shorter of the two numbers is filled up with zeros on its right, as the format has it.
    """
    if not sequencer or not than:
        return True
    width = max(len(sequencer), len(than))
    return sequencer.upper().ljust(width, "0") > than.upper().ljust(width, "0")


def _read(number: int, record: Any) -> ObjectEvent | None:
    try:
        kind = _KINDS.get(str(record["eventName"]).removeprefix("s3:").split(":")[0])
        bucket, told = str(record["s3"]["bucket"]["name"]), record["s3"]["object"]
        key = unquote_plus(str(told["key"]))
        sequencer = str(told.get("sequencer") or "")
    except (KeyError, TypeError, AttributeError) as error:
        detail = f"/Records/{number}: is no record of an S3 notification ({type(error).__name__}: {error})"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from error
    return None if kind is None else ObjectEvent(kind, bucket, key, sequencer)
