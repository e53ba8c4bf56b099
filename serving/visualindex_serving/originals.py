"""Stored bytes of images, and how many a file may have."""

from visualindex.catalog import ImageRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore import original_key
from visualindex_serving.index_service import IndexService
from visualindex_serving.visibility import not_found


async def read_original(index: IndexService, record: ImageRecord) -> bytes:
    """The bytes of an image as they were uploaded.

    Raises ProblemError IMAGE_NOT_FOUND when it was just erased or replaced, and NOT_FOUND when its original is missing.
    """
    try:
        return await index.store.get(original_key(index.name, record.content_digest))
    except ProblemError as problem:
        if problem.type is not ProblemType.NOT_FOUND:
            raise
        now = (await index.catalog.get_images(index.name, [record.image_id])).get(record.image_id)
        if now is None or now.content_digest != record.content_digest:
            raise not_found(index, record.image_id) from problem
        raise _lost(index, record) from problem


def _lost(index: IndexService, record: ImageRecord) -> ProblemError:
    detail = (
        f"The original of image {record.image_id} is missing in the object store of index {index.name}; the image is "
        f"still found. Put it again under its key, or check the index with repair, which copies it from another index."
    )
    return ProblemError(ProblemType.NOT_FOUND, detail)


def check_image_bytes(index: IndexService, data: bytes) -> None:
    """Raise ProblemError IMAGE_TOO_LARGE for a file beyond the index's limit, before anything looks at it."""
    limit = index.resource.spec.limits.image_bytes
    if len(data) > limit:
        detail = f"The image file has {len(data)} bytes; at most {limit} (limits.imageBytes)."
        raise ProblemError(ProblemType.IMAGE_TOO_LARGE, detail, extra={"limit": limit})
