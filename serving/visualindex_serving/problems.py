"""Every error leaves the gateway as an RFC 9457 problem document."""

import difflib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.mounting import base_of

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_MAX_ERRORS = 20
_SHOWN_ERRORS = 5
_GENERATION_ID = (
    "a generation is named by 16 hexadecimal digits; GET /api/indexes/{name}/generations lists them"
)
_IDS = {
    "generation": _GENERATION_ID,
    "other": _GENERATION_ID,
    "job_id": "a job is named by a UUID; GET /api/indexes/{name}/jobs lists them",
    "image_id": "an image is named by a UUID; GET /api/images lists them",
}
"""What to say of parameters in paths that can be wrong in one way only."""
_BY_STATUS = {
    404: ProblemType.NOT_FOUND,
    405: ProblemType.METHOD_NOT_ALLOWED,
    413: ProblemType.REQUEST_TOO_LARGE,
    415: ProblemType.UNSUPPORTED_MEDIA_TYPE,
}


def problem_response(problem: ProblemError, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as an HTTP response, with `Retry-After` where a retry makes sense."""
    sent = {**(headers or {}), "Cache-Control": "no-store"}
    if problem.retry_after_s is not None:
        sent["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
    if problem.type is ProblemType.UNAUTHENTICATED:
        sent["WWW-Authenticate"] = 'Bearer realm="visualindex"'
    return Response(orjson.dumps(problem.document()), problem.status, headers=sent, media_type=MEDIA_TYPE)


def invalid(pointer: str, message: str) -> ProblemError:
    """The problem of one mistake at a JSON pointer (RFC 6901) of the request."""
    errors = [{"pointer": pointer, "message": message}]
    return ProblemError(
        ProblemType.INVALID_REQUEST, f"{pointer or 'The body'}: {message}", extra={"errors": errors}
    )


def invalid_model(error: ValidationError, model: type[BaseModel], document: Any) -> ProblemError:
    """The problem of a `document` that does not fit `model`: each mistake with its place, at most 20 of them."""
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_ERRORS]:
        unknown = one["type"] == "extra_forbidden"
        message = _unknown_key(model, one["loc"]) if unknown else _sentence(one["msg"])
        path = _in_document(one["loc"], document, missing=one["type"] == "missing")
        found.append({"pointer": pointer_of(path), "message": message})
    return _listed(found, error.error_count())


def invalid_parameters(errors: Sequence[Any]) -> ProblemError:
    """The problem of path or query parameters, named by `parameter`."""
    found = []
    for one in errors[:_MAX_ERRORS]:
        _, *path = one["loc"]
        parameter = ".".join(map(str, path))
        message = _IDS.get(parameter) or _sentence(str(one["msg"]))
        found.append({"parameter": parameter, "message": message})
    return _listed(found, len(errors))


def _listed(found: list[dict[str, str]], count: int) -> ProblemError:
    shown = [f"{e.get('pointer', e.get('parameter')) or 'The body'}: {e['message']}" for e in found]
    more = [f"and {count - _SHOWN_ERRORS} more"] if count > _SHOWN_ERRORS else []
    detail = "; ".join([*shown[:_SHOWN_ERRORS], *more])
    return ProblemError(ProblemType.INVALID_REQUEST, detail, extra={"errors": found})


def pointer_of(path: Sequence[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _in_document(path: Sequence[str | int], document: Any, *, missing: bool) -> list[str | int]:
    """The part of a validation error's path that the document has: of alternatives it names the one that was tried, too."""
    found: list[str | int] = []
    for at, part in enumerate(path):
        inside = isinstance(document, dict) and part in document
        if inside or (isinstance(document, list) and isinstance(part, int) and part < len(document)):
            document = document[part]
            found.append(part)
        elif missing and at == len(path) - 1:
            found.append(part)
    return found


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


def _unknown_key(model: type[BaseModel], path: tuple[str | int, ...]) -> str:
    known = sorted(_fields_at(model, path[:-1]))
    near = difflib.get_close_matches(str(path[-1]), known, 1, 0.6)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; known are {', '.join(known)}"


def _fields_at(model: type[BaseModel], path: tuple[str | int, ...]) -> set[str]:
    """The fields of the model that `path` leads to."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_models_in(field.annotation), model)
    return set(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def install(app: FastAPI) -> None:
    """Render ProblemError, validation errors, routing errors and everything unexpected as problems."""

    @app.exception_handler(ProblemError)
    async def _problem(_: Request, exc: ProblemError) -> Response:
        return problem_response(exc)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, exc: RequestValidationError) -> Response:
        return problem_response(invalid_parameters(exc.errors()))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, exc: HTTPException) -> Response:
        return problem_response(_routing(request, exc), exc.headers)

    @app.exception_handler(ClientDisconnect)
    async def _gone(_: Request, __: ClientDisconnect) -> Response:
        return problem_response(
            ProblemError(ProblemType.MALFORMED_BODY, "The caller left before its body ended.")
        )

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, exc: Exception) -> Response:
        logger.exception("unexpected error in %s %s", request.method, request.url.path, exc_info=exc)
        detail = "The service met an unexpected error; its log has the details."
        return problem_response(ProblemError(ProblemType.INTERNAL, detail))


def _routing(request: Request, exc: HTTPException) -> ProblemError:
    path = request.url.path[:200]
    if exc.status_code == 404:
        return ProblemError(
            ProblemType.NOT_FOUND,
            f"There is nothing at {path}; {base_of(request.scope)}/docs lists the calls.",
        )
    if exc.status_code == 405:
        allowed = (exc.headers or {}).get("Allow", "another method")
        detail = f"{path} does not take {request.method[:20]}; use {allowed}."
        return ProblemError(ProblemType.METHOD_NOT_ALLOWED, detail)
    return ProblemError(_BY_STATUS.get(exc.status_code, ProblemType.MALFORMED_BODY), str(exc.detail))
