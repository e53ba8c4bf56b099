"""The seam between the service and its bytes: what every object store promises, whatever is behind it."""

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from visualindex.errors import ProblemError, ProblemType

MAX_KEY_LENGTH = 512
"""Longest key in characters; leaves room for a bucket prefix below the 1,024 bytes of S3."""

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PREFIX = re.compile(r"[A-Za-z0-9._/-]*")


@dataclass(frozen=True)
class ObjectStat:
    """What is known of an object without reading it."""

    size: int
    """Bytes of content."""
    etag: str
    """Opaque: equal for equal content within one store, different for different content."""
    content_type: str
    """Media type given to `put`."""
    modified: datetime
    """When it was last put, be it with the content that it had (UTC, aware)."""


class ObjectStore(Protocol):
    """Named byte strings that survive crashes: `put` returns once the object would survive one.

    Every method raises `ProblemError`: UNAVAILABLE when the store cannot be used (the message says why and what to
    do; `retry_after_s` is set when waiting may help), STORAGE_FULL when there is no room.
    """

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """Write an object whole or not at all, replacing what the key named before."""

    async def get(self, key: str) -> bytes:
        """The content of an object; `ProblemError` NOT_FOUND when there is none."""

    async def stat(self, key: str) -> ObjectStat | None:
        """Size, etag and media type of an object, or None when there is none."""

    async def verify(self, key: str) -> ObjectStat | None:
        """As `stat`, once the content is known to be what was put; ProblemError INTERNAL when it is not.

        A store whose server sees to that itself is asked no more than for `stat`; any other one reads all of the object.
        """

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key that names none is no error."""

    def list(self, prefix: str) -> AsyncIterator[str]:
        """Every key that starts with `prefix` (of whole characters, not path segments), in no promised order.

        Keys written or deleted meanwhile may or may not appear.
        """

    async def check(self) -> None:
        """Write, read back and delete a small object: returns when the store can be used, raises when not."""

    async def close(self) -> None:
        """Release threads and connections; the store cannot be used afterwards."""


def checked_key(key: str) -> str:
    """`key` itself when it is safe as an object name and as a path; else `ProblemError` INVALID_REQUEST."""
    if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        raise ProblemError(
            ProblemType.INVALID_REQUEST,
            f"object key {key[:80]!r} is not usable: write segments of letters, digits, '-', '_' and inner '.', "
            f"joined by single slashes, {MAX_KEY_LENGTH} characters at most",
        )
    return key


def checked_prefix(prefix: str) -> str:
    """`prefix` itself when some safe key could start with it; else `ProblemError` INVALID_REQUEST."""
    if len(prefix) > MAX_KEY_LENGTH or not _PREFIX.fullmatch(prefix) or ".." in prefix.split("/"):
        raise ProblemError(ProblemType.INVALID_REQUEST, f"no object key can start with {prefix[:80]!r}")
    return prefix


def missing(key: str) -> ProblemError:
    """The problem of reading an object that does not exist."""
    return ProblemError(ProblemType.NOT_FOUND, f"object {key} does not exist in the object store")
