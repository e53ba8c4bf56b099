"""GET /api/thumbnails/…: small pictures under immutable addresses, ready for a CDN in front."""

import re

from fastapi import APIRouter, Request, Response

from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import thumbnail_key
from visualindex_serving.service import Service

router = APIRouter(tags=["images"])

_NAME = re.compile(r"[0-9a-f]{64}\.webp")
IMMUTABLE = "public, max-age=31536000, immutable"


@router.get("/api/thumbnails/{index}/{size}/{name}", response_class=Response)
async def get_thumbnail(request: Request, index: str, size: int, name: str) -> Response:
    """One thumbnail. Its address is made of the content's 256-bit digest: knowing it is the permission to see it."""
    service: Service = request.app.state.service
    found = service.indexes.get(index)
    sizes = () if found is None else found.resource.spec.storage.thumbnail_sizes
    if found is None or size not in sizes or not _NAME.fullmatch(name):
        raise ProblemError(ProblemType.NOT_FOUND, f"There is no thumbnail {index}/{size}/{name}.")
    if found.resource.spec.access.thumbnails == "key":
        await service.authorize(request, "search", index)
    etag = f'"{name.removesuffix(".webp")}-{size}"'
    headers = {"ETag": etag, "Cache-Control": IMMUTABLE, "X-Content-Type-Options": "nosniff"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    data = await found.store.get(thumbnail_key(index, bytes.fromhex(name.removesuffix(".webp")), size))
    return Response(data, media_type="image/webp", headers=headers)
