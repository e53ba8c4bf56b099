"""What is said of an image, and whether an index takes it."""

import uuid
from collections.abc import Mapping
from typing import Any

import orjson

from visualindex.api.images import ImageFields
from visualindex.catalog import ImageRecord
from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import check_metadata as check_declared
from visualindex.filters import schema_of
from visualindex.identity import image_id_for_key
from visualindex.spec import Spec

_DEPTH = 16


def image_id_of(index: str, fields: ImageFields) -> uuid.UUID:
    """The image that is meant: by its id or its key, else a new one."""
    if fields.image_id is not None:
        return fields.image_id
    return uuid.uuid4() if fields.key is None else image_id_for_key(index, fields.key)


def check_metadata(spec: Spec, metadata: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> None:
    """Raise ProblemError REQUEST_TOO_LARGE or INVALID_REQUEST for a metadata document beyond the limits.

    INVALID_REQUEST also for a value of another type than `spec.attributes` declares, unless it was there `before`.
    """
    limit = spec.limits.metadata_bytes
    if metadata and len(orjson.dumps(metadata)) > limit:
        detail = f"The metadata document is larger than {limit} bytes (limits.metadataBytes)."
        raise ProblemError(ProblemType.REQUEST_TOO_LARGE, detail, extra={"limit": limit})
    if _nests_deeper(metadata, _DEPTH):
        message = f"nests deeper than {_DEPTH} levels; flatten it"
        errors = [{"pointer": "/metadata", "message": message}]
        raise ProblemError(ProblemType.INVALID_REQUEST, f"/metadata: {message}", extra={"errors": errors})
    check_declared(schema_of(spec.attributes), metadata, before)


def beside(record: ImageRecord | None, fields: ImageFields) -> ImageFields:
    """The fields of an image whose source knows its key and perhaps its category: what others said of it stays."""
    if record is None:
        return fields
    category = record.category if fields.category is None else fields.category
    kept = {"category": category, "url": record.url, "metadata": record.metadata}
    return fields.model_copy(update=kept)


def says_the_same(record: ImageRecord, fields: ImageFields) -> bool:
    """Whether the image has these fields already."""
    own = record.key, record.category, record.url, record.metadata
    return own == (fields.key, fields.category, fields.url, fields.metadata)


def _nests_deeper(document: Any, levels: int) -> bool:
    if not isinstance(document, Mapping | list):
        return False
    values = document.values() if isinstance(document, Mapping) else document
    return levels == 0 or any(_nests_deeper(value, levels - 1) for value in values)
