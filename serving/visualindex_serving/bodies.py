"""Requests as they arrive: JSON, or multipart with the picture beside it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import is_text_form
from visualindex_serving.multipart import Form, Upload, malformed, read_multipart
from visualindex_serving.problems import invalid, invalid_model, pointer_of

M = TypeVar("M", bound=BaseModel)

JSON = ("application/json",)
MERGE_PATCH = ("application/merge-patch+json", "application/json")
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
FORM = "multipart/form-data"
_JSON_BYTES = 16 * 1024 * 1024
_LINE = re.compile(rb"\S[^\n]*")
_JSON_FIELDS = frozenset(
    {"filter", "query", "box", "metadata", "vector", "images", "events", "facets", "group_by", "sort"}
)


@dataclass(frozen=True)
class Body:
    """One JSON object and the uploads beside it.

    `typed` says that all of it came as JSON: then a number in quotes is a mistake, while a form has only text.
    """

    document: dict[str, Any]
    files: list[tuple[str, Upload]]
    size: int
    typed: bool

    def read(self, model: type[M]) -> M:
        """The document as a model. Raises ProblemError INVALID_REQUEST listing every mistake."""
        return validate(model, self.document, typed=self.typed)

    def upload(self, part: str = "image") -> bytes | None:
        """The picture in a part, None without one. Raises ProblemError when there are several or it is empty."""
        for name, _ in self.files:
            if name != part:
                raise malformed(f"The form has a file named {name}; this call takes one named {part}.")
        if len(self.files) > 1:
            raise malformed(
                f"The form has {len(self.files)} parts named {part}; send one, or use the batch call."
            )
        if self.files and not self.files[0][1].data:
            raise ProblemError(ProblemType.INVALID_IMAGE, f"The form's part {part} is empty.")
        return self.files[0][1].data if self.files else None

    def gathered(self, into: str, names: frozenset[str]) -> "Body":
        """The body with the plain fields of those names moved into the object `into`, where the model has them."""
        loose = {name: self.document[name] for name in self.document if name in names}
        if self.typed or not loose:
            return self
        inner = self.document.get(into, {})
        if not isinstance(inner, dict):
            raise invalid(f"/{into}", "must be a JSON object")
        twice = sorted(loose.keys() & inner.keys())
        if twice:
            raise malformed(f"{twice[0]} is given twice.")
        rest = {name: value for name, value in self.document.items() if name not in names}
        return replace(self, document={**rest, into: {**inner, **loose}})


def media_type(request: Request) -> str:
    """The media type of the body, lower case, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unsupported(request: Request, accepted: tuple[str, ...]) -> ProblemError:
    """The problem of a body in another media type than those accepted."""
    given = media_type(request) or "none"
    detail = f"The body's Content-Type is {given}; send {' or '.join(accepted)}."
    return ProblemError(ProblemType.UNSUPPORTED_MEDIA_TYPE, detail)


async def read_body(request: Request, *, json: tuple[str, ...] = JSON, form: bool = True) -> Body:
    """The body of a request: JSON of one of the media types `json`, or a multipart form where `form` allows one.

    Raises ProblemError UNSUPPORTED_MEDIA_TYPE, MALFORMED_BODY, or INVALID_REQUEST for what no field may hold.
    """
    _refuse_encoded(request)
    media = media_type(request)
    if media in json:
        raw = await _text_of(request)
        return Body(_object(parse_json(raw, "body"), ""), [], len(raw), True)
    if media == FORM and form:
        return _body_of_form(await read_form(request))
    raise unsupported(request, (*json, FORM) if form else json)


async def read_form(request: Request) -> Form:
    """The multipart form, read whole. Raises ProblemError MALFORMED_BODY when it cannot be parsed."""
    return await read_multipart(request.headers.get("content-type", ""), request.stream())


async def read_lines(request: Request, most: int) -> list[bytes]:
    """The lines of an NDJSON body that are not blank, and no more than one beyond `most`.

    Raises ProblemError MALFORMED_BODY when there are none, REQUEST_TOO_LARGE beyond 16 MiB.
    """
    _refuse_encoded(request)
    raw = await _text_of(request)
    lines = [found[0] for found in islice(_LINE.finditer(raw), most + 1)]
    if not lines:
        raise malformed("The body has no lines; send one JSON object per line.")
    return lines


async def _text_of(request: Request) -> bytes:
    """The body of a request that carries no picture. Raises ProblemError REQUEST_TOO_LARGE beyond 16 MiB."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        _refuse_long(len(raw))
    return bytes(raw)


def _refuse_long(size: int) -> None:
    if size > _JSON_BYTES:
        detail = f"JSON may have at most {_JSON_BYTES} bytes; send pictures as files of a form."
        raise ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": _JSON_BYTES})


def _refuse_encoded(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        detail = f"The body is encoded as {encoding}; send it as it is, without Content-Encoding."
        raise ProblemError(ProblemType.UNSUPPORTED_MEDIA_TYPE, detail)


def parse_json(raw: bytes, what: str, place: tuple[str | int, ...] = ()) -> Any:
    """JSON as RFC 8259 has it: UTF-8, finite numbers, bounded depth; and no NUL, which Postgres cannot store.

    `place` is the path of a part of the request.

    Raises ProblemError MALFORMED_BODY, REQUEST_TOO_LARGE, or INVALID_REQUEST with the place of a NUL.
    """
    _refuse_long(len(raw))
    if not raw.strip():
        raise malformed(f"The {what} is empty; send a JSON object.")
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise malformed(f"The {what} is not JSON: {exc}.") from exc
    if b"\\u0000" in raw:
        _refuse_nul(document, place)
    return document


def _refuse_nul(document: Any, place: tuple[str | int, ...]) -> None:
    for path, text in _strings(document):
        if "\0" in text:
            raise invalid(
                pointer_of((*place, *path)), "holds a NUL character, which cannot be stored; remove it"
            )


def _strings(document: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every string of a JSON document, keys too, with its path; without recursion, for input may nest deeply."""
    pending: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, str):
            yield path, node
        elif isinstance(node, dict):
            pending.extend(((*path, key), value) for key, value in node.items())
            yield from ((path, key) for key in node)
        elif isinstance(node, list):
            pending.extend(((*path, at), value) for at, value in enumerate(node))


def _object(document: Any, pointer: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise invalid(pointer, "must be a JSON object")
    return document


def validate(model: type[M], document: Any, *, typed: bool = True) -> M:
    """Read a document as a model. Raises ProblemError INVALID_REQUEST listing every mistake."""
    try:
        if typed:
            return model.model_validate_json(orjson.dumps(document), strict=True)
        return model.model_validate(document)
    except ValidationError as exc:
        raise invalid_model(exc, model, document) from exc
    except orjson.JSONEncodeError as exc:
        raise invalid("", "nests too deeply; flatten it") from exc


def _body_of_form(form: Form) -> Body:
    parts = [value.encode() for name, value in form.fields if name == "request"]
    parts += [upload.data for name, upload in form.files if name == "request"]
    if len(parts) > 1:
        raise malformed("The form's part request is given twice.")
    document = _object(parse_json(parts[0], "form's part request"), "/request") if parts else {}
    plain = [(name, value) for name, value in form.fields if name != "request"]
    for name, value in plain:
        if name in document:
            raise malformed(f"The form's field {name} is given twice.")
        document[name] = _field(name, value)
    files = [(name, upload) for name, upload in form.files if name != "request"]
    return Body(document, files, form.size, not plain)


def _field(name: str, value: str) -> Any:
    if name == "image":
        raise malformed(
            "The form's part image is a plain field: send it as a file (curl: -F image=@photo.jpg)."
        )
    if name in _JSON_FIELDS and not (name == "filter" and is_text_form(value)):
        return parse_json(value.encode(), f"form's field {name}", (name,))
    if "\0" in name + value:
        raise invalid(pointer_of((name,)), "holds a NUL character, which cannot be stored; remove it")
    return value
