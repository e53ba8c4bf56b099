"""From the key of an object to the key and category of an image."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from visualindex.api.images import ImageFields
from visualindex.spec.models import S3Spec

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp"})
"""What the names of pictures end with, in lower case."""

KeyRule = Literal["path", "name", "stem"]
CategoryRule = Literal["none", "folder"]
_OWN = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?/(originals|thumbnails|generations|jobs)/")


@dataclass(frozen=True)
class NameRule:
    """How objects below `base` name images."""

    base: str = ""
    key: KeyRule = "path"
    category: CategoryRule = "none"

    def fields_of(self, object_key: str) -> ImageFields:
        """Key and category of the image. Raises pydantic's ValidationError for one that is too long."""
        path = PurePosixPath(object_key.removeprefix(self.base).lstrip("/"))
        key = {"path": str(path), "name": path.name, "stem": path.stem}[self.key]
        folder = path.parts[0] if self.category == "folder" and len(path.parts) > 1 else None
        return ImageFields(key=key, category=folder)


def is_picture(object_key: str) -> bool:
    """Whether an object is a picture by its name, and no hidden file."""
    path = PurePosixPath(object_key)
    return path.suffix.lower() in PICTURES and not any(part.startswith(".") for part in path.parts)


def is_own(storage: S3Spec | None, bucket: S3Spec, object_key: str) -> bool:
    """Whether an object is what the service itself stores: its thumbnails are no pictures to take in."""
    if storage is None or (storage.endpoint, storage.bucket) != (bucket.endpoint, bucket.bucket):
        return False
    prefix = f"{storage.prefix.strip('/')}/" if storage.prefix.strip("/") else ""
    below = object_key.removeprefix(prefix)
    return object_key.startswith(prefix) and _OWN.match(below) is not None
