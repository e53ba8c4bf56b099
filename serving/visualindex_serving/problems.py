"""Every error leaves the gateway as an RFC 9457 problem document."""

import logging
import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from visualindex.errors import ProblemError, ProblemType

logger = logging.getLogger(__name__)

_BY_STATUS = {
    404: ProblemType.NOT_FOUND,
    405: ProblemType.METHOD_NOT_ALLOWED,
    413: ProblemType.REQUEST_TOO_LARGE,
}


def problem_response(problem: ProblemError) -> JSONResponse:
    """The problem as an HTTP response, with `Retry-After` where a retry makes sense."""
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
    if problem.type is ProblemType.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = 'Bearer realm="visualindex"'
    return JSONResponse(
        problem.document(), problem.status, headers=headers, media_type="application/problem+json"
    )


def invalid_request(errors: list[dict[str, object]]) -> ProblemError:
    """A problem from pydantic's errors, each with the place it was found at."""
    found = [{"pointer": _pointer(e["loc"]), "message": str(e["msg"])} for e in errors]
    detail = "; ".join(f"{e['pointer'] or '/'}: {e['message']}" for e in found[:5])
    return ProblemError(ProblemType.INVALID_REQUEST, detail, extra={"errors": found})


def _pointer(location: object) -> str:
    parts = location if isinstance(location, tuple) else ()
    return "".join(f"/{part}" for part in parts if part != "body")


def install(app: FastAPI) -> None:
    """Render ProblemError, validation errors, routing errors and everything unexpected as problems."""

    @app.exception_handler(ProblemError)
    async def _problem(_: Request, exc: ProblemError) -> JSONResponse:
        return problem_response(exc)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, exc: RequestValidationError) -> JSONResponse:
        return problem_response(invalid_request(list(exc.errors())))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, exc: HTTPException) -> JSONResponse:
        kind = _BY_STATUS.get(exc.status_code, ProblemType.MALFORMED_BODY)
        return problem_response(ProblemError(kind, str(exc.detail)))

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, exc: Exception) -> JSONResponse:
        logger.exception("unexpected error in %s %s", request.method, request.url.path, exc_info=exc)
        detail = "The service met an unexpected error; its log has the details."
        return problem_response(ProblemError(ProblemType.INTERNAL, detail))
