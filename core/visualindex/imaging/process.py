"""One worker process as the pool sees it: started, given one job at a time, killed."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import arena, wire
from visualindex.imaging.jobs import Bounds, Decoded, DecodeJob

START_TIMEOUT_S = 60.0
EXIT_TIMEOUT_S = 1.0


class WorkerDiedError(Exception):
    """The process ended without an answer; the message says how."""


@dataclass(eq=False)
class WorkerProcess:
    """A running worker. Use by one task at a time."""

    process: asyncio.subprocess.Process
    connection: socket.socket
    arena: arena.Arena
    jobs: int = 0
    rss_bytes: int = 0

    @classmethod
    async def start(cls, bounds: Bounds, timeout_s: float) -> "WorkerProcess":
        """Start a worker and wait until it is ready. Raises ProblemError UNAVAILABLE."""
        try:
            worker = await cls._spawned(bounds, timeout_s)
            await worker._greeted()
        except (TimeoutError, OSError, WorkerDiedError, wire.BrokenWorkerError) as error:
            detail = (
                "An image decoder did not start: see this process's standard error, and its memory limit."
            )
            raise ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1.0) from error
        return worker

    @classmethod
    async def _spawned(cls, bounds: Bounds, timeout_s: float) -> "WorkerProcess":
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        shared = arena.Arena.create(bounds.image_bytes)
        try:
            with theirs:
                process = await _spawn(theirs.fileno(), shared.fd, bounds, timeout_s)
        except BaseException:
            ours.close()
            shared.close()
            raise
        return cls(process, ours, shared)

    async def _greeted(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._receive()
        except BaseException:
            await self.kill()
            raise

    @property
    def alive(self) -> bool:
        """Whether the process runs and, unasked, has said nothing: what it says now would pass for the next answer."""
        try:
            self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self.process.returncode is None
        except OSError:
            return False
        return False

    async def run(self, job: DecodeJob) -> Decoded:
        """Decode one image.

        Raises the worker's ProblemError, or WorkerDiedError or BrokenWorkerError, after which it must be killed.
        """
        self.jobs += 1
        loop = asyncio.get_running_loop()
        try:
            await self.arena.put(job.data)
            await loop.sock_sendall(self.connection, wire.message(wire.request_head(job), len(job.data)))
            head = await self._receive()
        except OSError as error:
            raise WorkerDiedError(str(error)) from error
        length, self.rss_bytes = _whole_number(head, "length"), _whole_number(head, "rss")
        if length > self.arena.capacity:
            raise wire.BrokenWorkerError(f"an answer of {length} bytes")
        body = self.arena.take(length)
        if arena.is_large(max(length, len(job.data))):
            self.arena.forget()
        return wire.read_answer(head, body, job)

    async def kill(self) -> int:
        """End the process, whatever it does, and reap it. Answers its exit status (negative: the signal)."""
        if self.connection.fileno() >= 0:
            self.connection.close()
            self.arena.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        return await self.process.wait()

    async def death(self) -> str:
        """How a worker that stopped answering ended, killing it where it has not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if self.alive else EXIT_TIMEOUT_S):
                await self.process.wait()
        status = await self.kill()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    async def _receive(self) -> wire.Head:
        """The worker's next message; a small one comes in a single read."""
        loop = asyncio.get_running_loop()
        received = bytearray()
        while (end := wire.end_of_message(received)) is None or len(received) < end:
            piece = await loop.sock_recv(self.connection, wire.MAX_HEAD)
            if not piece:
                raise WorkerDiedError("it closed its connection")
            received += piece
        if len(received) > end:
            raise wire.BrokenWorkerError("it says more than it was asked")
        return wire.read_head(received)


async def _spawn(
    connection: int, shared: int, bounds: Bounds, timeout_s: float
) -> asyncio.subprocess.Process:
    settings = {
        "connection": connection,
        "arena": shared,
        "parent": os.getpid(),
        "bounds": asdict(bounds),
        "cpu_seconds": int(timeout_s) + 2,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "visualindex.imaging.worker",
        json.dumps(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=(connection, shared),
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    """Only what the interpreter needs: the server's environment holds credentials."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": str(16 * 1024**2),
        "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2),
    }


def _whole_number(head: wire.Head, name: str) -> int:
    value = head.get(name)
    if not isinstance(value, int) or value < 0:
        raise wire.BrokenWorkerError(f"no {name} in its head")
    return value
