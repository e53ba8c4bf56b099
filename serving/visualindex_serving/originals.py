"""Stored bytes of images, and how many a file may have."""

from visualindex.catalog import ImageRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import original_key
from visualindex_serving.index_service import IndexService
from visualindex_serving.visibility import not_found


async def read_original(index: IndexService, record: ImageRecord) -> bytes:
    """The bytes of an image as they were uploaded. Raises ProblemError IMAGE_NOT_FOUND when it was just erased."""
    try:
        return await index.store.get(original_key(index.name, record.content_digest))
    except ProblemError as problem:
        if problem.type is ProblemType.NOT_FOUND:
            raise not_found(index, record.image_id) from problem
        raise


def check_image_bytes(index: IndexService, data: bytes) -> None:
    """Raise ProblemError IMAGE_TOO_LARGE for a file beyond the index's limit, before anything looks at it."""
    limit = index.resource.spec.limits.image_bytes
    if len(data) > limit:
        detail = f"The image file has {len(data)} bytes; at most {limit} (limits.imageBytes)."
        raise ProblemError(ProblemType.IMAGE_TOO_LARGE, detail, extra={"limit": limit})
