"""The search page and the reference: static files under a policy that keeps the browser to this origin and these files."""

import os
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_WEB = Path(__file__).parent / "web"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # revalidated each time (304 by ETag), so that a page never mixes files of two releases
    "Cache-Control": "no-cache",
}


class _Files(StaticFiles):
    """Static files with the page's headers."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """The file, or 304 when the browser has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response


def install(app: FastAPI) -> None:
    """Serve the search page at `/`, the reference of the API at `/docs`, and their files at `/static`."""
    app.mount("/static", _Files(directory=_WEB), name="static")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(_: Request) -> Response:
        return FileResponse(_WEB / "index.html", media_type="text/html", headers=_HEADERS)

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def reference(_: Request) -> Response:
        return FileResponse(_WEB / "reference.html", media_type="text/html", headers=_HEADERS)
