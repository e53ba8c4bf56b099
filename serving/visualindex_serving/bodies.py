"""Requests as they arrive: JSON, or multipart with the picture beside it."""

import json
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.problems import invalid_request

M = TypeVar("M", bound=BaseModel)

_JSON_FIELDS = frozenset({"filter", "query", "box", "metadata", "vector"})
_QUERY_FIELDS = frozenset({"image_url", "image_id", "vector", "box", "fingerprint"})
_PART_BYTES = 1024 * 1024
_MAX_PARTS = 2048


@dataclass(frozen=True)
class Upload:
    """A picture out of a multipart body, with its file name."""

    data: bytes
    filename: str | None


def is_multipart(request: Request) -> bool:
    """Whether the request carries multipart form data."""
    return request.headers.get("content-type", "").startswith("multipart/form-data")


async def read_json(request: Request) -> Any:
    """The JSON body. Raises ProblemError MALFORMED_BODY when it is none."""
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as exc:
        raise malformed(f"The body is not JSON: {exc}.") from exc


async def read_form(request: Request) -> FormData:
    """The multipart form. Raises ProblemError MALFORMED_BODY when it cannot be parsed."""
    try:
        return await request.form(max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=_PART_BYTES)
    except HTTPException as exc:
        raise malformed(f"The multipart body cannot be parsed: {exc.detail}.") from exc


def malformed(detail: str) -> ProblemError:
    """The problem of a body that cannot be parsed."""
    return ProblemError(ProblemType.MALFORMED_BODY, detail)


def validate(model: type[M], document: Any) -> M:
    """Read a document as a model. Raises ProblemError INVALID_REQUEST listing every mistake."""
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        raise invalid_request([dict(e) for e in exc.errors(include_url=False)]) from exc


async def upload_of(form: FormData, part: str = "image") -> Upload | None:
    """The picture in a form's part, None without one. Raises ProblemError when there are several or it is empty."""
    parts = form.getlist(part)
    if not parts:
        return None
    if len(parts) > 1:
        raise malformed(f"The form has {len(parts)} parts named {part}; send one, or use the batch call.")
    if not isinstance(parts[0], UploadFile):
        raise malformed(
            f"The form's part {part} is a plain field: send it as a file (curl: -F {part}=@photo.jpg)."
        )
    data = await parts[0].read()
    if not data:
        raise ProblemError(ProblemType.INVALID_IMAGE, f"The form's part {part} is empty.")
    return Upload(data, parts[0].filename)


def request_part(form: FormData, part: str = "request") -> dict[str, Any]:
    """The JSON of a form's `request` part together with its plain fields; a field given twice is an error."""
    document = _json_object(form, part) if part in form else {}
    for name, value in form.multi_items():
        if name in (part, "image") or isinstance(value, UploadFile):
            continue
        if name in document:
            raise malformed(f"{name} is given twice.")
        document[name] = _field(name, value)
    return document


def search_document(form: FormData) -> dict[str, Any]:
    """A search request out of a form: query fields may stand beside the others."""
    document = request_part(form)
    loose = {name: document.pop(name) for name in list(document) if name in _QUERY_FIELDS}
    if loose:
        document["query"] = {**document.get("query", {}), **loose}
    return document


def _json_object(form: FormData, part: str) -> dict[str, Any]:
    value = form[part]
    raw = value.file.read() if isinstance(value, UploadFile) else value.encode()
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise malformed(f"The form's part {part} is not JSON: {exc}.") from exc
    if not isinstance(document, dict):
        raise malformed(f"The form's part {part} must be a JSON object.")
    return document


def _field(name: str, value: str) -> Any:
    if name not in _JSON_FIELDS:
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as exc:
        raise malformed(f"The form's field {name} is not JSON: {exc}.") from exc
