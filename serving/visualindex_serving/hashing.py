"""Content digests that do not hold up the event loop."""

import asyncio
import hashlib

_LONG_BYTES = 1024 * 1024


async def sha256(*parts: bytes) -> bytes:
    """The 32-byte digest of the parts; long ones are hashed in a thread, for the event loop has others to serve."""
    if sum(map(len, parts)) > _LONG_BYTES:
        return await asyncio.to_thread(_sha256, parts)
    return _sha256(parts)


def _sha256(parts: tuple[bytes, ...]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
