"""A directory of keys, as a mounted Secret is one: each file is a key, by its text alone or as JSON with what it allows."""

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from visualindex.catalog.managed_keys import DeclaredKey
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import parse_filter

_MOST_BYTES = 64 * 1024
_KEY = re.compile(r"vi_[A-Za-z0-9._~+/=-]{22,}")  # 22 characters of base64 are the first to hold 128 bits
_HOW_TO_MAKE_ONE = "make one with: echo vi_$(openssl rand -hex 32)"
_ALL_SCOPES = ("search", "write", "admin")
_ADMIN_FILE = "admin"

Scope = Literal["search", "write", "admin"]


class _KeyFile(BaseModel):
    """The JSON form of a key's file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: str
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("search",)
    filter: dict[str, Any] | None = None
    expires: AwareDatetime | None = None

    @field_validator("filter")
    @classmethod
    def _can_be_used(cls, document: dict[str, Any] | None) -> dict[str, Any] | None:
        if document is not None:
            try:
                parse_filter(document)
            except ProblemError as problem:
                raise ValueError(problem.detail) from None
        return document


def read_keys(folder: Path) -> list[DeclaredKey]:
    """The keys of `folder`, by file name. Names that begin with a dot are the mount's own and no keys.

    ProblemError INVALID_REQUEST for a folder or file that cannot be read and for what is no key, never with the key's text.
    """
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        detail = f"the directory of keys {folder} cannot be read ({error.strerror}): mount the Secret there"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from error
    return [_read(path) for path in files]


def _read(path: Path) -> DeclaredKey:
    text = _text(path)
    if text.startswith("{"):
        return _from_json(path, text)
    return _declared(path, text, _ALL_SCOPES if path.name == _ADMIN_FILE else ("search",))


def _from_json(path: Path, text: str) -> DeclaredKey:
    try:
        read = _KeyFile.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _wrong(path, _what(error.errors(include_url=False)[0])) from None
    # The order of scopes means nothing, so it must not look like a change.
    scopes = tuple(scope for scope in _ALL_SCOPES if scope in read.scopes)
    return _declared(path, read.key, scopes, filter=read.filter, expires_at=read.expires)


def _declared(
    path: Path,
    key: str,
    scopes: tuple[str, ...],
    *,
    filter: dict[str, Any] | None = None,  # noqa: A002 (the field's name everywhere)
    expires_at: datetime | None = None,
) -> DeclaredKey:
    if not _KEY.fullmatch(key):
        raise _wrong(path, f"is no key: vi_ and 22 or more letters, digits or -._~+/=; {_HOW_TO_MAKE_ONE}")
    return DeclaredKey.of(path.name, key, scopes, filter=filter, expires_at=expires_at)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise _wrong(path, f"cannot be read ({reason}): {_HOW_TO_MAKE_ONE}") from error
    if len(data) > _MOST_BYTES:
        raise _wrong(path, f"is longer than {_MOST_BYTES} bytes: it holds one key")
    return text


def _what(error: ErrorDetails) -> str:
    """Which part of the JSON is wrong. pydantic's messages name the rule, not the value."""
    place = ".".join(str(part) for part in error["loc"])
    return f"is wrong{' at ' + place if place else ''}: {error['msg'].removeprefix('Value error, ')}"


def _wrong(path: Path, what: str) -> ProblemError:
    return ProblemError(ProblemType.INVALID_REQUEST, f"key file {path} {what}")
