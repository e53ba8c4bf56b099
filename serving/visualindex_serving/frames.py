"""Frames over a byte stream: a JSON head and raw bytes behind it. Nothing in them can run code, unlike a pickle."""

import asyncio
import struct
from collections.abc import Mapping
from typing import Any, cast

import orjson

_PREFIX = struct.Struct("<II")
MAX_HEAD = 1024 * 1024
MAX_BODY = 64 * 1024 * 1024

Head = Mapping[str, Any]


class BrokenStreamError(Exception):
    """The other side sent what is no frame, or a frame beyond the limits."""


def frame(head: Head, *body: bytes) -> bytes:
    """The bytes of a frame: lengths of head and body, the head as JSON, the body's parts one after another."""
    encoded = orjson.dumps(head)
    return b"".join((_PREFIX.pack(len(encoded), sum(map(len, body))), encoded, *body))


class FrameProtocol(asyncio.Protocol):
    """Cuts what arrives into frames for `on_frame`; a stream that is none is broken off."""

    def __init__(self, *, max_bytes: int = MAX_HEAD + MAX_BODY) -> None:
        self.max_bytes = max_bytes
        self.transport: asyncio.Transport | None = None
        self._received = bytearray()

    def on_frame(self, head: dict[str, Any], body: bytes) -> None:
        """Takes one frame. Raises BrokenStreamError to end the connection."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        """Hand on every whole frame."""
        self._received += data
        try:
            while (found := self._whole()) is not None:
                self.on_frame(*found)
        except (BrokenStreamError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            self.abort()

    def send(self, data: bytes) -> None:
        """Write a frame, or drop it when the connection has ended."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def abort(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def _whole(self) -> tuple[dict[str, Any], bytes] | None:
        received = self._received
        if len(received) < _PREFIX.size:
            return None
        head_bytes, body_bytes = _PREFIX.unpack_from(received)
        if head_bytes > MAX_HEAD or body_bytes > MAX_BODY or head_bytes + body_bytes > self.max_bytes:
            raise BrokenStreamError(f"a frame of {head_bytes} and {body_bytes} bytes")
        middle = _PREFIX.size + head_bytes
        end = middle + body_bytes
        if len(received) < end:
            return None
        head, body = orjson.loads(received[_PREFIX.size : middle]), bytes(received[middle:end])
        del received[:end]
        if not isinstance(head, dict):
            raise BrokenStreamError("a head that is no object")
        return head, body
