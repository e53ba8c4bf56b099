"""Frames over a byte stream: a JSON head and raw bytes behind it. Nothing in them can run code, unlike a pickle."""

import asyncio
import logging
import socket
import struct
from collections.abc import Mapping
from typing import Any, cast

import orjson

logger = logging.getLogger(__name__)

_PREFIX = struct.Struct("<II")
MAX_HEAD = 1024 * 1024
MAX_BODY = 64 * 1024 * 1024

STRANGER_BYTES = 4096
"""The largest frame of someone who has not proven who they are."""

_SILENCE_MS = 5_000
"""After which unacknowledged data, or a peer that does not answer the kernel's probes, ends the connection."""

Head = Mapping[str, Any]


class BrokenStreamError(Exception):
    """The other side sent what is no frame, or a frame beyond the limits."""


def frame(head: Head, *body: bytes) -> bytes:
    """The bytes of a frame: lengths of head and body, the head as JSON, the body's parts one after another.

    Raises BrokenStreamError for a frame that the other side would refuse, TypeError for what is not JSON.
    """
    encoded, body_bytes = orjson.dumps(head), sum(map(len, body))
    if len(encoded) > MAX_HEAD or body_bytes > MAX_BODY:
        raise BrokenStreamError(f"a frame of {len(encoded)} and {body_bytes} bytes")
    return b"".join((_PREFIX.pack(len(encoded), body_bytes), encoded, *body))


class FrameProtocol(asyncio.Protocol):
    """Cuts what arrives into frames for `on_frame`; a stream that is none is broken off.

    Until `trusted` is set frames are small and what is wrong with them is not worth a line in the log.
    """

    def __init__(self) -> None:
        self.trusted = False
        self.transport: asyncio.Transport | None = None
        self._received = bytearray()

    def on_frame(self, head: dict[str, Any], body: bytes) -> None:
        """Takes one frame. Raises BrokenStreamError to end the connection."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        _notice_silence(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Hand on every whole frame."""
        self._received += data
        try:
            while (found := self._whole()) is not None:
                self.on_frame(*found)
        except Exception as exc:  # whatever a frame is wrong in, the next one cannot be understood
            if self.trusted:
                logger.warning("a connection between gateway and shard is broken off", exc_info=exc)
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
        most = (MAX_HEAD, MAX_BODY) if self.trusted else (STRANGER_BYTES, 0)
        if head_bytes > most[0] or body_bytes > most[1]:
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


def _notice_silence(connection: socket.socket) -> None:
    """Let the kernel end the connection to a node that vanished without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
