"""GET /api/thumbnails/…: small pictures under immutable addresses, ready for a CDN in front."""

import re
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving import openapi
from visualindex_serving.caching import not_modified
from visualindex_serving.deadlines import deadline_in, within
from visualindex_serving.service import service_of

router = APIRouter(tags=["images"])

_NAME = re.compile(r"[0-9a-f]{64}\.webp")
_YEAR = "max-age=31536000, immutable"


@router.get(
    "/api/thumbnails/{index}/{size}/{name}",
    response_class=Response,
    responses={
        200: {"description": "The thumbnail.", "content": {"image/webp": {"schema": openapi.BINARY}}},
        304: {"description": "The caller's copy, named by `If-None-Match`, is current."},
        **openapi.problem_responses(ProblemType.NOT_FOUND),
    },
)
async def get_thumbnail(
    request: Request,
    index: Annotated[str, Path(description="The index.")],
    size: Annotated[str, Path(description="Longest edge in pixels, one of the index's three sizes.")],
    name: Annotated[str, Path(description="SHA-256 of the original, hexadecimal, and `.webp`.")],
) -> Response:
    """One thumbnail, made when it is first asked for.

    Its address is made of the content's 256-bit digest: knowing it is the permission to see it.
    """
    service = service_of(request)
    found = service.indexes.get(index)
    public = found is not None and found.resource.spec.access.thumbnails == "capability"
    if not public:
        found, _ = (await service.caller(request, "search")).index(index)
    sizes = () if found is None else found.resource.spec.storage.thumbnail_sizes
    if found is None or size not in map(str, sizes) or not _NAME.fullmatch(name):
        raise _missing(index, size, name)
    etag = f'"{name.removesuffix(".webp")}-{size}"'
    headers = {
        "ETag": etag,
        "Cache-Control": f"{'public' if public else 'private'}, {_YEAR}",
        "X-Content-Type-Options": "nosniff",
    }
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    deadline = deadline_in(found.resource.spec.limits.write_timeout_ms)
    getting = found.thumbnails.get(bytes.fromhex(name.removesuffix(".webp")), int(size))
    data = await within(deadline, "making the thumbnail", getting)
    if data is None:
        raise _missing(index, size, name)
    return Response(data, media_type="image/webp", headers=headers)


def _missing(index: str, size: str, name: str) -> ProblemError:
    return ProblemError(ProblemType.NOT_FOUND, f"There is no thumbnail {index}/{size}/{name}."[:300])
