"""A server on loopback whose answers a test writes byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def reply(status: str, body: bytes) -> Answer:
    """A complete answer."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    return answer


@asynccontextmanager
async def raw_server(answer: Answer, paths: list[str] | None = None) -> AsyncIterator[str]:
    """Its URL; the paths it is asked for are added to `paths`."""
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            handlers.add(task)
        with suppress(ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if paths is not None:
                paths.append(head.decode().split(" ")[1])
            await answer(writer)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*handlers)
