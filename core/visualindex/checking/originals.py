"""Originals that are wanted and those that are there, part by part, so that memory holds one part of them."""

import zlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

PARTS = 256
"""Parts of the originals of an index: by the first byte of the digest, as their keys are."""


@dataclass(frozen=True)
class Originals:
    """Digests that are wanted and not there, and that are there and not wanted."""

    missing: frozenset[bytes]
    orphaned: frozenset[bytes]


def split(wanted: AbstractSet[bytes], there: AbstractSet[bytes]) -> Originals:
    """What the two do not share."""
    return Originals(frozenset(wanted - there), frozenset(there - wanted))


def drawn(digests: AbstractSet[bytes], share: float, draw: UUID) -> list[bytes]:
    """A share of the digests, in order: the same ones for the same `draw`, others for another."""
    most = int(share * 2**32)
    return [one for one in sorted(digests) if zlib.crc32(one, zlib.crc32(draw.bytes)) < most]


def digest_of(key: str) -> bytes | None:
    """The digest that the key of an original names; None for a key that names none."""
    try:
        digest = bytes.fromhex(key.rsplit("/", 1)[-1])
    except ValueError:
        return None
    return digest if len(digest) == 32 else None
