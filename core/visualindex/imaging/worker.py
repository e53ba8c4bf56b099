"""The process that decodes: started by the pool as `python -m visualindex.imaging.worker`, it answers until told off."""

import json
import os
import socket
import sys
from typing import Any

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import sandbox, wire
from visualindex.imaging.arena import Arena
from visualindex.imaging.decoding import decode
from visualindex.imaging.headers import Buffer
from visualindex.imaging.jobs import Bounds

_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Serve jobs from the inherited socket until the pool closes its end."""
    settings = json.loads(sys.argv[1])
    sandbox.die_with_parent(settings["parent"])
    connection = socket.socket(fileno=settings["connection"])
    arena = Arena(settings["arena"])
    bounds = Bounds(**settings["bounds"])
    sandbox.confine(bounds.image_pixels, bounds.image_bytes, arena.capacity)
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    _discard_stderr()
    connection.sendall(wire.message({"ready": True}, 0))
    while (head := _receive(connection)) is not None:
        sandbox.allow_cpu(settings["cpu_seconds"])
        answer, body = _answer(head, arena.take(head["length"]), bounds)
        answer["rss"] = _resident_bytes(statm)
        connection.sendall(wire.message(answer, arena.write(body)))


def _discard_stderr() -> None:
    """Decoding libraries print what a file makes them print; errors of starting up have been seen by now."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def _answer(
    head: wire.Head, data: Buffer, bounds: Bounds
) -> tuple[dict[str, Any], list[Buffer | memoryview]]:
    try:
        return wire.answer_parts(decode(wire.read_request(head, data), bounds))
    except ProblemError as problem:
        return wire.problem_head(problem), []
    except MemoryError:
        detail = "The image needs more memory than a decoder may take: send a smaller one."
        return wire.problem_head(ProblemError(ProblemType.IMAGE_TOO_LARGE, detail)), []
    # What decoders raise has become a problem by now: this is a fault of ours, and must not be blamed on the image.
    except Exception as error:
        detail = f"The decoder failed ({type(error).__name__}: {error}): report it with the image."
        return wire.problem_head(ProblemError(ProblemType.INTERNAL, detail)), []


def _receive(connection: socket.socket) -> wire.Head | None:
    prefix = _exactly(connection, wire.PREFIX.size)
    encoded = prefix and _exactly(connection, *wire.PREFIX.unpack(prefix))
    return json.loads(encoded) if encoded else None


def _exactly(connection: socket.socket, length: int) -> bytearray | None:
    data = bytearray(length)
    rest = memoryview(data)
    while rest:
        received = connection.recv_into(rest)
        if not received:
            return None
        rest = rest[received:]
    return data


def _resident_bytes(statm: int) -> int:
    return int(os.pread(statm, 128, 0).split()[1]) * _PAGE


if __name__ == "__main__":
    main()
