"""Messages between the pool and its workers: JSON over a socket pair, while the bytes lie in the shared arena.

JSON rather than pickle: a worker that an image took over must not be able to run code in the server.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from visualindex.colours import Colour, pack
from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging.headers import Buffer, ImageInfo
from visualindex.imaging.inputs import InputSpec
from visualindex.imaging.jobs import Decoded, DecodeJob

PREFIX = struct.Struct("<I")
"""Length of the JSON that follows, in bytes."""

MAX_HEAD = 64 * 1024

Head = Mapping[str, Any]


class BrokenWorkerError(Exception):
    """A worker answered something that no healthy worker answers."""


def message(head: Head, body_length: int) -> bytes:
    """A message that announces `body_length` bytes in the arena."""
    encoded = json.dumps({**head, "length": body_length}, separators=(",", ":")).encode()
    return PREFIX.pack(len(encoded)) + encoded


def end_of_message(received: bytearray) -> int | None:
    """Where the message that starts `received` ends; None while too little of it is there."""
    if len(received) < PREFIX.size:
        return None
    (length,) = PREFIX.unpack_from(received)
    if length > MAX_HEAD:
        raise BrokenWorkerError(f"a message of {length} bytes")
    return PREFIX.size + int(length)


def read_head(received: bytearray) -> Head:
    """The JSON object of a whole message. Raises BrokenWorkerError."""
    try:
        head = json.loads(received[PREFIX.size :])
    except ValueError as error:
        raise BrokenWorkerError(f"a malformed message: {error}") from error
    if not isinstance(head, dict):
        raise BrokenWorkerError("a message that is no JSON object")
    return head


def request_head(job: DecodeJob) -> dict[str, Any]:
    """A job without its bytes."""
    return {
        "input": job.input and vars(job.input),
        "box": job.box,
        "thumbnails": job.thumbnails,
        "colours": job.colours,
    }


def read_request(head: Head, data: Buffer) -> DecodeJob:
    """The inverse of `request_head`."""
    wanted = InputSpec(**head["input"]) if head["input"] else None
    box = head["box"] and tuple(head["box"])
    return DecodeJob(data, wanted, box, tuple(head["thumbnails"]), bool(head["colours"]))


def answer_parts(decoded: Decoded) -> tuple[dict[str, Any], list[Buffer | memoryview]]:
    """The head of an answer and the pieces of its body: the pixels, then each thumbnail."""
    pixels = [] if decoded.pixels is None else [np.ascontiguousarray(decoded.pixels).reshape(-1).data]
    head = {
        "info": vars(decoded.info),
        "thumbnails": [[edge, len(encoded)] for edge, encoded in decoded.thumbnails.items()],
        "colours": decoded.colours,
        "cpu_ms": decoded.cpu_ms,
    }
    return head, [*pixels, *decoded.thumbnails.values()]


def problem_head(problem: ProblemError) -> dict[str, Any]:
    """The head of an answer that is a problem."""
    return {"problem": problem.type.name, "detail": problem.detail}


def read_answer(head: Head, body: bytearray, job: DecodeJob) -> Decoded:
    """The decoded image; raises the ProblemError the worker answered, or BrokenWorkerError for a malformed answer."""
    try:
        if "problem" in head:
            raise ProblemError(ProblemType[head["problem"]], str(head["detail"]))
        return _decoded(head, body, job)
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenWorkerError(f"malformed answer: {error}") from error


def _decoded(head: Head, body: bytearray, job: DecodeJob) -> Decoded:
    view, offset, pixels = memoryview(body), 0, None
    if job.input is not None:
        shape = (job.input.height, job.input.width, 3)
        offset = shape[0] * shape[1] * 3
        pixels = np.frombuffer(view[:offset], np.uint8).reshape(shape)
    thumbnails: dict[int, bytes] = {}
    for edge, length in head["thumbnails"]:
        thumbnails[int(edge)] = bytes(view[offset : offset + length])
        offset += length
    if offset != len(body) or set(thumbnails) != set(job.thumbnails):
        raise ValueError("its parts do not add up")
    colours = tuple(Colour(*values) for values in head["colours"])
    pack(colours)  # a worker that an image took over must not get anything else into the catalog
    return Decoded(pixels, ImageInfo(**head["info"]), thumbnails, colours, float(head["cpu_ms"]))
