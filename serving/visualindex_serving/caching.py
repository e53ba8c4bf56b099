"""Conditional requests: what a cache already has is not sent again."""

from starlette.requests import Request


def not_modified(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names the entity tag, or any (RFC 9110, 13.1.2)."""
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in given.split(","))
