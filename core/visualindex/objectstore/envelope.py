"""How one object lies in one file: its content, then a trailer with the media type and a digest.

One file means one rename makes both visible. Picture decoders ignore what follows a picture, so the files can still be
looked at; the digest turns a damaged disk block into an error instead of a wrong picture.
"""

import hashlib
import os
import struct
from dataclasses import dataclass

_TAIL = struct.Struct("<16sH6s")
_MAGIC = b"VIobj\x01"
_MAX_CONTENT_TYPE = 255
_CHUNK_BYTES = 1024**2


class DamagedError(Exception):
    """The file is not what was written."""


@dataclass(frozen=True)
class Trailer:
    """What the file says about its content."""

    digest: bytes
    """BLAKE2b of the content, 16 bytes."""
    content_type: str
    """Media type given to `put`."""

    def pack(self) -> bytes:
        """The bytes that follow the content; ValueError for a media type beyond 255 bytes or outside ASCII."""
        media = self.content_type.encode("ascii")
        if len(media) > _MAX_CONTENT_TYPE:
            raise ValueError(f"content type of {len(media)} bytes; at most {_MAX_CONTENT_TYPE} are stored")
        return media + _TAIL.pack(self.digest, len(media), _MAGIC)


def trailer_of(content: bytes, content_type: str) -> Trailer:
    """The trailer that `content` gets."""
    return Trailer(hashlib.blake2b(content, digest_size=16).digest(), content_type)


def opened(raw: bytes) -> bytes:
    """The content of a whole file, verified; `DamagedError` when digest or trailer are wrong."""
    trailer, size = _parse(raw[-(_MAX_CONTENT_TYPE + _TAIL.size) :], len(raw))
    content = raw[:size]
    if trailer_of(content, trailer.content_type) != trailer:
        raise DamagedError("its digest does not match its content")
    return content


def described(descriptor: int) -> tuple[Trailer, int]:
    """Trailer and content size in bytes of an open file, without reading the content."""
    length = os.fstat(descriptor).st_size
    window = min(length, _MAX_CONTENT_TYPE + _TAIL.size)
    return _parse(os.pread(descriptor, window, length - window), length)


def verified(descriptor: int) -> tuple[Trailer, int]:
    """As `described`, once the content was read, a little at a time; `DamagedError` when its digest is wrong."""
    trailer, size = described(descriptor)
    digest = hashlib.blake2b(digest_size=16)
    for offset in range(0, size, _CHUNK_BYTES):
        digest.update(os.pread(descriptor, min(_CHUNK_BYTES, size - offset), offset))
    if digest.digest() != trailer.digest:
        raise DamagedError("its digest does not match its content")
    return trailer, size


def _parse(end: bytes, length: int) -> tuple[Trailer, int]:
    if len(end) < _TAIL.size:
        raise DamagedError("it is too short")
    digest, media_size, magic = _TAIL.unpack(end[-_TAIL.size :])
    size = length - _TAIL.size - media_size
    if magic != _MAGIC or size < 0 or media_size > _MAX_CONTENT_TYPE:
        raise DamagedError("it has no trailer")
    media = end[-_TAIL.size - media_size : -_TAIL.size]
    return Trailer(digest, media.decode("ascii", "replace")), size
