"""Which images a key with a mandatory filter may see: the one rule for reading, changing and searching by image."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from visualindex.catalog import ImageRecord
from visualindex.colours import Colour
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import matches, parse_filter
from visualindex_serving.index_service import IndexService

Filter = dict[str, Any] | None


def passes(
    mandatory: Filter,
    *,
    key: str | None,
    category: str | None,
    metadata: Mapping[str, Any],
    colours: Sequence[Colour] = (),
) -> bool:
    """Whether an image with these fields passes a key's filter; everything passes None."""
    if mandatory is None:
        return True
    attributes = {"key": key, "category": category, "metadata": metadata, "colours": colours}
    return matches(parse_filter(mandatory), attributes)


def visible(mandatory: Filter, record: ImageRecord) -> bool:
    """Whether a stored image passes a key's filter."""
    return mandatory is None or matches(parse_filter(mandatory), attributes_of(record))


def attributes_of(record: ImageRecord) -> dict[str, Any]:
    """What filters read of a stored image."""
    return {
        "key": record.key,
        "category": record.category,
        "metadata": record.metadata,
        "colours": record.colours,
    }


async def visible_image(index: IndexService, image_id: uuid.UUID, mandatory: Filter) -> ImageRecord:
    """The image. Raises ProblemError IMAGE_NOT_FOUND, also for one outside the filter: not even its existence shows."""
    found = await index.catalog.get_images(index.name, [image_id])
    record = found.get(image_id)
    if record is None or not visible(mandatory, record):
        raise not_found(index, image_id)
    return record


def not_found(index: IndexService, image_id: uuid.UUID) -> ProblemError:
    """The problem of an image that is not there, or not for this caller."""
    return ProblemError(ProblemType.IMAGE_NOT_FOUND, f"There is no image {image_id} in index {index.name}.")


def outside(what: str) -> ProblemError:
    """The problem of a write that reaches beyond the key's filter."""
    detail = f"{what} outside the filter of this API key; use a key without one."
    return ProblemError(ProblemType.FORBIDDEN, detail)
