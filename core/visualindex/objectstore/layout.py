"""Which object lies under which key: content addresses, so that equal pictures are stored once per index."""

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


def _address(digest: bytes) -> str:
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(
            f"a content digest has {_DIGEST_BYTES} bytes, this one {len(digest)}: pass content_digest()"
        )
    return f"{digest[:1].hex()}/{digest.hex()}"
