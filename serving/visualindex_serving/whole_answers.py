"""Answers of the HTTP server in one piece: its head waits for the body that follows.

uvicorn writes an answer's head and its body apart, and each write wakes the proxy, which on a machine of few cores takes
the core from the gateway between the two.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn import config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 "


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's protocol over a transport that keeps heads back."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn does it."""
        super().connection_made(HeadsWait(transport))


class HeadsWait(asyncio.Transport):
    """A transport that writes a head together with what comes next, or by itself when nothing does at once."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._head:
            self._transport.writelines((self._head, data))
            self._head = b""
        elif isinstance(data, bytes) and data.startswith(_HEAD):
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            self._transport.write(data)

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def abort(self) -> None:
        self._head = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Whoever takes the connection over, such as WebSockets, gets it as this does."""
        self._transport.set_protocol(protocol)


def install() -> None:
    """Make it what servers of this process speak that leave the choice to uvicorn, as Serve's do."""
    config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{WholeAnswers.__name__}"
