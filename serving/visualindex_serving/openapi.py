"""What the OpenAPI document says beyond what FastAPI reads from signatures: bodies, problems, keys."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from visualindex.errors import TYPE_PREFIX, ProblemError, ProblemType
from visualindex_serving.problems import MEDIA_TYPE

_REF = "#/components/schemas/"
BINARY = {"type": "string", "format": "binary"}
IMAGE_PART = {**BINARY, "description": "The picture: JPEG, PNG, WebP, GIF, TIFF or BMP."}
_ALWAYS = (
    ProblemType.UNAUTHENTICATED,
    ProblemType.FORBIDDEN,
    ProblemType.INDEX_NOT_FOUND,
    ProblemType.INVALID_REQUEST,
    ProblemType.OVERLOADED,
    ProblemType.UNAVAILABLE,
    ProblemType.DEADLINE_EXCEEDED,
)
BODY_PROBLEMS = (
    ProblemType.MALFORMED_BODY,
    ProblemType.BODY_TIMEOUT,
    ProblemType.REQUEST_TOO_LARGE,
    ProblemType.UNSUPPORTED_MEDIA_TYPE,
)
PICTURE_PROBLEMS = (
    *BODY_PROBLEMS,
    ProblemType.UNSUPPORTED_IMAGE,
    ProblemType.INVALID_IMAGE,
    ProblemType.IMAGE_TOO_LARGE,
    ProblemType.DECODE_TIMEOUT,
    ProblemType.FETCH_REFUSED,
    ProblemType.FETCH_FAILED,
)
WRITE_PROBLEMS = (
    *PICTURE_PROBLEMS,
    ProblemType.IDEMPOTENCY_CONFLICT,
    ProblemType.IDEMPOTENCY_IN_PROGRESS,
    ProblemType.STORAGE_FULL,
)


def problem_responses(*types: ProblemType) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may raise these, and what every call may raise."""
    by_status: dict[int, list[ProblemType]] = defaultdict(list)
    for kind in dict.fromkeys((*types, *_ALWAYS)):
        by_status[kind.value.status].append(kind)
    return {status: _response(kinds) for status, kinds in sorted(by_status.items())}


def _response(kinds: list[ProblemType]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"`{kind.value.slug}`: {kind.value.title}" for kind in kinds),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": _REF + "Problem"},
                "examples": {
                    kind.value.slug: {
                        "value": ProblemError(kind, "What happened, and what to do.").document()
                    }
                    for kind in kinds
                },
            }
        },
    }


def ref(model: type[BaseModel]) -> dict[str, Any]:
    """A reference to a model's schema."""
    return {"$ref": _REF + model.__name__}


def body(contents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body itself: media type → media type object."""
    return {"requestBody": {"required": True, "content": contents}}


def form(model: type[BaseModel], parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A multipart form whose `request` part is the model as JSON, with other parts beside it."""
    request = {**ref(model), "description": "Everything else as JSON; or give its fields as form fields."}
    properties = {**parts, "request": request}
    schema = {"type": "object", "properties": properties, "additionalProperties": {"type": "string"}}
    return {"schema": schema, "encoding": {"request": {"contentType": "application/json"}}}


def idempotency_key() -> dict[str, Any]:
    """The header that makes a write repeatable."""
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "1 to 255 printable characters, a new one for each write: a repeat returns the first answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    }


def install(app: FastAPI, models: list[type[BaseModel]]) -> None:
    """Serve the whole document: `models` are those of bodies, which FastAPI does not see."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(app, models)
        return app.openapi_schema

    replace: Callable[[], dict[str, Any]] = document
    app.openapi = replace  # type: ignore[method-assign]


def _complete(app: FastAPI, models: list[type[BaseModel]]) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, extra = models_json_schema([(m, "validation") for m in models], ref_template=_REF + "{model}")
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(extra["$defs"])
    schemas["Problem"] = _PROBLEM
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = _SECURITY
    document["security"] = [{"bearer": []}, {"apiKey": []}, {}]
    return document


_SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key: `Authorization: Bearer vi_…`.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key, by itself.",
    },
}
_ERROR = {
    "type": "object",
    "description": "One mistake.",
    "properties": {
        "pointer": {"type": "string", "description": "JSON pointer (RFC 6901) into the body."},
        "parameter": {"type": "string", "description": "Name of the path or query parameter."},
        "message": {"type": "string", "description": "What is wrong."},
    },
    "required": ["message"],
}
_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "A problem document (RFC 9457); docs/problems.md describes every type.",
    "properties": {
        "type": {
            "type": "string",
            "description": "The stable name of the problem.",
            "enum": [TYPE_PREFIX + kind.value.slug for kind in ProblemType],
        },
        "title": {"type": "string", "description": "The type in words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What happened this time, and what to do."},
        "errors": {
            "type": "array",
            "items": _ERROR,
            "description": "The mistakes of an invalid request, at most 20.",
        },
        "pointer": {"type": "string", "description": "Where an invalid filter is wrong, as JSON."},
        "offset": {
            "type": "integer",
            "description": "Where an invalid filter is wrong, as text: characters before it.",
        },
        "limit": {"type": "integer", "description": "The limit that was exceeded."},
        "behind_ms": {"type": "number", "description": "Age of the index's view, when it has not caught up."},
    },
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": True,
}
