"""Jobs as the dashboard of a Ray cluster lists them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True)
class SubmittedJob:
    """A job; those without a submission id were begun by a driver of their own. Times are in milliseconds since 1970."""

    status: str
    submission_id: str | None = None
    message: str | None = None
    metadata: Mapping[str, Any] | None = field(default=None)
    start_time: int | None = None
    end_time: int | None = None


_JOBS = TypeAdapter(list[SubmittedJob])


def submitted(document: bytes) -> list[SubmittedJob]:
    """Those in an answer of `GET /api/jobs/`. Raises pydantic's ValidationError for any other answer."""
    return [one for one in _JOBS.validate_json(document) if one.submission_id]
