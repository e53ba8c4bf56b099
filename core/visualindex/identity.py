"""How images are named and where they live: the stable functions every part must agree on."""

import hashlib
import uuid

import numpy as np
import numpy.typing as npt

BUCKETS = 1024
"""Number of hash buckets. Fixed for ever: shards own sets of buckets, so shard counts can change, this cannot."""

_KEY_NAMESPACE = uuid.UUID("6f1d3c5e-8c55-5b0e-9d0f-2f0c5f6b7a11")


def bucket_of(image_id: uuid.UUID) -> int:
    """The bucket (0 … 1023) an image belongs to: a stable hash of its id, equal in every release."""
    return int.from_bytes(hashlib.blake2b(image_id.bytes, digest_size=8).digest(), "big") % BUCKETS


def buckets_of(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """The buckets of ids, uint8 [n, 16], as uint16 [n]."""
    packed = np.ascontiguousarray(ids).tobytes()
    hashed = b"".join(
        hashlib.blake2b(packed[at : at + 16], digest_size=8).digest() for at in range(0, len(packed), 16)
    )
    buckets: npt.NDArray[np.uint16] = (np.frombuffer(hashed, ">u8") % BUCKETS).astype(np.uint16)
    return buckets


def shard_of(bucket: int, shards: int) -> int:
    """The shard (0 … shards-1) that owns a bucket: contiguous ranges of nearly equal size."""
    return bucket * shards // BUCKETS


def buckets_of_shard(shard: int, shards: int) -> range:
    """The contiguous buckets that `shard` of `shards` owns."""
    return range(-(-shard * BUCKETS // shards), -(-(shard + 1) * BUCKETS // shards))


def image_id_for_key(index: str, key: str) -> uuid.UUID:
    """The image id of a caller's own key (SKU, path): the same key always names the same image of an index."""
    return uuid.uuid5(_KEY_NAMESPACE, f"{index}/{key}")


def content_digest(data: bytes) -> bytes:
    """The 32-byte SHA-256 of an original's bytes: its address in the object store."""
    return hashlib.sha256(data).digest()


def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), uint64 [n]: every bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def scattered(ids: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint64]:
    """A number for each id (uint8 [n, 16]) that looks random and depends on the id and the seed alone, uint64 [n]."""
    words = np.ascontiguousarray(ids).view("<u8").astype(np.uint64)
    numbers = np.full(len(words), seed % 2**64, np.uint64)
    for column in (words[:, 0], words[:, 1]):
        numbers = mixed((numbers ^ column) + np.uint64(0x9E3779B97F4A7C15))
    return numbers
