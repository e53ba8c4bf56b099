"""Asking a store whether it works by using it: reachability alone says nothing about permissions."""

import secrets
from typing import TYPE_CHECKING

from visualindex.errors import ProblemError, ProblemType

if TYPE_CHECKING:
    from visualindex.objectstore.base import ObjectStore


async def round_trip(store: "ObjectStore") -> None:
    """Write, read back and delete a small object; raises the store's own problem, or UNAVAILABLE on a wrong answer."""
    key = f"_check/{secrets.token_hex(8)}"
    content = secrets.token_bytes(32)
    await store.put(key, content, content_type="application/octet-stream")
    read_back = await store.get(key)
    await store.delete([key])
    if read_back != content:
        raise ProblemError(
            ProblemType.UNAVAILABLE,
            "the object store returns other bytes than were written: check what is behind it",
        )
