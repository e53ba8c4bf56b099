"""Every error a caller can meet, as RFC 9457 problem types with stable names."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

TYPE_PREFIX = "https://visualindex.dev/problems/"


@dataclass(frozen=True)
class _Type:
    slug: str
    status: int
    title: str


class ProblemType(Enum):
    """The stable `type` of a problem document; documented one by one in docs/problems.md."""

    INVALID_REQUEST = _Type("invalid-request", 422, "The request does not fit its schema")
    MALFORMED_BODY = _Type("malformed-body", 400, "The body cannot be parsed")
    BODY_TIMEOUT = _Type("body-timeout", 408, "The body did not arrive in time")
    UNSUPPORTED_MEDIA_TYPE = _Type(
        "unsupported-media-type", 415, "The body's media type is not understood here"
    )
    INVALID_FILTER = _Type("invalid-filter", 422, "The filter is not understood")
    UNSUPPORTED_IMAGE = _Type("unsupported-image", 415, "The image format is not supported")
    INVALID_IMAGE = _Type("invalid-image", 422, "The bytes are not a decodable image")
    IMAGE_TOO_LARGE = _Type("image-too-large", 413, "The image exceeds a limit of this index")
    REQUEST_TOO_LARGE = _Type("request-too-large", 413, "The request exceeds a limit of this index")
    DECODE_TIMEOUT = _Type("decode-timeout", 422, "The image took too long to decode")
    FETCH_REFUSED = _Type("fetch-refused", 422, "The URL may not be fetched")
    FETCH_FAILED = _Type("fetch-failed", 422, "The URL could not be fetched")
    UNAUTHENTICATED = _Type("unauthenticated", 401, "An API key is needed")
    FORBIDDEN = _Type("forbidden", 403, "The API key does not allow this")
    INDEX_NOT_FOUND = _Type("index-not-found", 404, "No such index")
    IMAGE_NOT_FOUND = _Type("image-not-found", 404, "No such image")
    NOT_FOUND = _Type("not-found", 404, "No such resource")
    METHOD_NOT_ALLOWED = _Type("method-not-allowed", 405, "The method is not allowed here")
    NOT_ACCEPTABLE_YET = _Type("not-caught-up", 412, "The index has not caught up with the given token")
    IDEMPOTENCY_CONFLICT = _Type(
        "idempotency-conflict", 409, "The idempotency key was used for another request"
    )
    IDEMPOTENCY_IN_PROGRESS = _Type(
        "idempotency-in-progress", 409, "A request with this idempotency key is running"
    )
    CONFLICT = _Type("conflict", 409, "The present state does not allow this")
    FINGERPRINT_MISMATCH = _Type(
        "fingerprint-mismatch", 422, "The vector does not belong to this index's encoder"
    )
    OVERLOADED = _Type("overloaded", 503, "The service is at capacity")
    UNAVAILABLE = _Type("unavailable", 503, "A part of the service is unavailable")
    DEADLINE_EXCEEDED = _Type("deadline-exceeded", 504, "The deadline passed before the answer was ready")
    STORAGE_FULL = _Type("storage-full", 507, "The storage is full")
    INTERNAL = _Type("internal", 500, "An unexpected error")


class ProblemError(Exception):
    """An error with its problem document: raise it anywhere, the gateway renders it."""

    def __init__(
        self,
        type_: ProblemType,
        detail: str,
        *,
        retry_after_s: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.type = type_
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.extra = dict(extra or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all parts, so that a problem crosses process and Ray borders unchanged."""
        return _rebuild, (self.type, self.detail, self.retry_after_s, self.extra)

    @property
    def status(self) -> int:
        """The HTTP status code of this problem."""
        return self.type.value.status

    def document(self) -> dict[str, Any]:
        """The RFC 9457 body: type, title, status, detail and this problem's own members."""
        kind = self.type.value
        base = {
            "type": TYPE_PREFIX + kind.slug,
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
        }
        return {**self.extra, **base}


def _rebuild(type_: ProblemType, detail: str, retry: float | None, extra: dict[str, Any]) -> ProblemError:
    return ProblemError(type_, detail, retry_after_s=retry, extra=extra)
