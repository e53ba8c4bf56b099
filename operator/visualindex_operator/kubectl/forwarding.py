"""A port on this machine whose connections end in ready pods of a Service.

The pod is chosen anew for every connection, from those that are ready at that moment: when a pod goes, its connections
break as they would anywhere, and the next ones reach another pod. `kubectl port-forward` keeps to one pod and ends with it.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import aiohttp

from visualindex.errors import ProblemError, ProblemType
from visualindex_operator.kubectl import paths
from visualindex_operator.kubectl.cluster import Cluster
from visualindex_operator.kubectl.services import Backend, Service, backends

Tell = Callable[[str], None]

_DATA, _ERROR = 0, 1
"""Channels of a forwarded port; the first message of each repeats the port's number."""
_CHUNK = 64 * 1024


class Forwarding:
    """Carries connections to a Service. `tell` hears which pods those are, and why one could not be made."""

    def __init__(self, cluster: Cluster, service: Service, tell: Tell) -> None:
        self._cluster = cluster
        self._service = service
        self._tell = tell
        self._pods = ""

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Listen as long as the context lasts, and yield the port; 0 takes any. ProblemError when no pod is ready."""
        await self._backends()
        carrying: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._carry(reader, writer))
            carrying.add(task)
            task.add_done_callback(carrying.discard)

        server = await asyncio.start_server(accept, host, port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in carrying:
                task.cancel()
            await asyncio.gather(*carrying, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._socket() as socket:
                await _exchange(reader, writer, socket)
        except ProblemError as problem:
            self._tell(problem.detail)
        except (OSError, aiohttp.ClientError):
            pass  # one end hung up: so does the other
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A connection to the first pod that takes one."""
        problem: ProblemError | None = None
        for backend in await self._backends():
            async with contextlib.AsyncExitStack() as stack:
                try:
                    socket = await stack.enter_async_context(self._connection(backend))
                except ProblemError as error:
                    problem = error
                    if error.type is ProblemType.FORBIDDEN:
                        break
                    continue
                yield socket
                return
        raise problem or ProblemError(ProblemType.UNAVAILABLE, "no pod is ready")

    async def _backends(self) -> list[Backend]:
        found = await backends(self._cluster, self._service)
        pods = ", ".join(sorted(backend.pod for backend in found))
        if pods != self._pods:
            self._tell(f"connections go to {pods}")
        self._pods = pods
        return found

    @asynccontextmanager
    async def _connection(self, backend: Backend) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        path = f"{paths.core(self._service.namespace, 'pods')}/{backend.pod}/portforward"
        what, wants = f"pod {backend.pod}", "create pods/portforward"
        async with self._cluster.socket(path, what, wants, {"ports": backend.port}) as socket:
            yield socket


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, socket: aiohttp.ClientWebSocketResponse
) -> None:
    """Carry bytes both ways until either end hangs up; ProblemError when the pod refuses the port."""
    upward = asyncio.create_task(_upward(reader, socket))
    downward = asyncio.create_task(_downward(socket, writer))
    try:
        done, _ = await asyncio.wait({upward, downward}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (upward, downward):
            task.cancel()
        await asyncio.gather(upward, downward, return_exceptions=True)


async def _upward(reader: asyncio.StreamReader, socket: aiohttp.ClientWebSocketResponse) -> None:
    while data := await reader.read(_CHUNK):
        await socket.send_bytes(bytes([_DATA]) + data)


async def _downward(socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    greeted: set[int] = set()
    async for message in socket:
        channel, data = message.data[0], message.data[1:]
        if channel not in greeted:
            greeted.add(channel)
        elif channel == _ERROR:
            raise ProblemError(
                ProblemType.UNAVAILABLE, f"the pod refused a connection: {data.decode().strip()}"
            )
        else:
            writer.write(data)
            await writer.drain()


@contextmanager
def forwarded(context: str | None, namespace: str | None, service: Service, tell: Tell) -> Iterator[int]:
    """A port on loopback for as long as the context lasts, for code that blocks: it is served from another thread."""
    opened: Future[tuple[int, Callable[[], object]]] = Future()
    thread = threading.Thread(
        target=_serve, args=(context, namespace, service, tell, opened), name="forwarding", daemon=True
    )
    thread.start()
    port, stop = opened.result()
    try:
        yield port
    finally:
        stop()
        thread.join()


def _serve(
    context: str | None,
    namespace: str | None,
    service: Service,
    tell: Tell,
    opened: "Future[tuple[int, Callable[[], object]]]",
) -> None:
    async def whole() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        async with (
            Cluster.open(context, namespace) as cluster,
            Forwarding(cluster, service, tell).listening("127.0.0.1", 0) as port,
        ):
            opened.set_result((port, partial(loop.call_soon_threadsafe, ended.set)))
            await ended.wait()

    try:
        asyncio.run(whole())
    except BaseException as error:
        if opened.done():
            raise
        opened.set_exception(error)
