"""Which object lies under which key: content addresses, so that equal pictures are stored once per index."""

import uuid
from collections.abc import Iterable

_DIGEST_BYTES = 32


def index_prefix(index: str) -> str:
    """What the keys of all objects of an index start with, and no other index's keys do."""
    return f"{index}/"


def original_key(index: str, digest: bytes) -> str:
    """Key of an original; `digest` is the 32-byte SHA-256 of its bytes."""
    return f"{index_prefix(index)}originals/{_address(digest)}"


def thumbnail_key(index: str, digest: bytes, size: int) -> str:
    """Key of the WebP thumbnail whose longest edge is `size` pixels; `digest` is that of the original."""
    return f"{index_prefix(index)}thumbnails/{size}/{_address(digest)}.webp"


def thumbnail_keys(index: str, digest: bytes, sizes: Iterable[int]) -> list[str]:
    """The keys of an original's thumbnails of several sizes."""
    return [thumbnail_key(index, digest, size) for size in sizes]


def manifest_prefix(index: str) -> str:
    """What the keys of the manifests of an index's published generations start with."""
    return f"{index_prefix(index)}generations/manifests/"


def manifest_key(index: str, generation: str) -> str:
    """Key of a published generation's manifest."""
    return f"{manifest_prefix(index)}{generation}.json"


def pending_prefix(index: str) -> str:
    """What the keys of the manifests of generations start with whose parts are still being uploaded."""
    return f"{index_prefix(index)}generations/pending/"


def pending_key(index: str, generation: str) -> str:
    """Key of the manifest of a generation that is being published: it holds the parts that are there already."""
    return f"{pending_prefix(index)}{generation}.json"


def part_prefix(index: str) -> str:
    """What the keys of the parts of all generations of an index start with."""
    return f"{index_prefix(index)}generations/parts/"


def part_key(index: str, digest: bytes) -> str:
    """Key of a part of a generation's file; `digest` is the 32-byte SHA-256 of the part."""
    return f"{part_prefix(index)}{_address(digest)}"


def job_prefix(index: str, job_id: uuid.UUID) -> str:
    """What the keys of all objects of a background job start with."""
    return f"{index_prefix(index)}jobs/{job_id}/"


def _address(digest: bytes) -> str:
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(
            f"a content digest has {_DIGEST_BYTES} bytes, this one {len(digest)}: pass content_digest()"
        )
    return f"{digest[:1].hex()}/{digest.hex()}"
