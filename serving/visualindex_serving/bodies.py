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


@dataclass(frozen=True)
class Form:
    """A multipart form: plain fields and uploads, in order, by name."""

    fields: list[tuple[str, str]]
    files: list[tuple[str, Upload]]

    def uploads(self, part: str) -> list[Upload]:
        """The uploads of that name."""
        return [upload for name, upload in self.files if name == part]


def is_multipart(request: Request) -> bool:
    """Whether the request carries multipart form data."""
    return request.headers.get("content-type", "").startswith("multipart/form-data")


async def read_json(request: Request) -> Any:
    """The JSON body. Raises ProblemError MALFORMED_BODY when it is none."""
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as exc:
        raise malformed(f"The body is not JSON: {exc}.") from exc


async def read_form(request: Request) -> Form:
    """The multipart form, read whole. Raises ProblemError MALFORMED_BODY when it cannot be parsed."""
    try:
        async with request.form(
            max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=_PART_BYTES
        ) as form:
            return await _whole(form)
    except HTTPException as exc:
        raise malformed(f"The multipart body cannot be parsed: {exc.detail}.") from exc


async def _whole(form: FormData) -> Form:
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, Upload]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.append((name, Upload(await value.read(), value.filename)))
        else:
            fields.append((name, value))
    return Form(fields, files)


def malformed(detail: str) -> ProblemError:
    """The problem of a body that cannot be parsed."""
    return ProblemError(ProblemType.MALFORMED_BODY, detail)


def validate(model: type[M], document: Any) -> M:
    """Read a document as a model. Raises ProblemError INVALID_REQUEST listing every mistake."""
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        raise invalid_request([dict(e) for e in exc.errors(include_url=False)]) from exc


def upload_of(form: Form, part: str = "image") -> Upload | None:
    """The picture in a form's part, None without one. Raises ProblemError when there are several or it is empty."""
    uploads = form.uploads(part)
    if any(name == part for name, _ in form.fields):
        raise malformed(
            f"The form's part {part} is a plain field: send it as a file (curl: -F {part}=@photo.jpg)."
        )
    if len(uploads) > 1:
        raise malformed(f"The form has {len(uploads)} parts named {part}; send one, or use the batch call.")
    if uploads and not uploads[0].data:
        raise ProblemError(ProblemType.INVALID_IMAGE, f"The form's part {part} is empty.")
    return uploads[0] if uploads else None


def request_part(form: Form, part: str = "request") -> dict[str, Any]:
    """The JSON of a form's `request` part together with its plain fields; a field given twice is an error."""
    raw = [value.encode() for name, value in form.fields if name == part]
    raw += [upload.data for upload in form.uploads(part)]
    if len(raw) > 1:
        raise malformed(f"{part} is given twice.")
    document = _json_object(raw[0], part) if raw else {}
    for name, value in form.fields:
        if name == part:
            continue
        if name in document:
            raise malformed(f"{name} is given twice.")
        document[name] = _field(name, value)
    return document


def search_document(form: Form) -> dict[str, Any]:
    """A search request out of a form: query fields may stand beside the others."""
    document = request_part(form)
    loose = {name: document.pop(name) for name in list(document) if name in _QUERY_FIELDS}
    if loose:
        document["query"] = {**document.get("query", {}), **loose}
    return document


def _json_object(raw: bytes, part: str) -> dict[str, Any]:
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
