"""Free ports for the parts of a local stack."""

import socket

from visualindex.errors import ProblemError, ProblemType


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def pick(preferred: int, *, taken: frozenset[int] = frozenset()) -> int:
    """The preferred port, or the next free one above it. Raises ProblemError UNAVAILABLE after a hundred."""
    for port in range(preferred, preferred + 100):
        if port not in taken and is_free(port):
            return port
    raise ProblemError(ProblemType.UNAVAILABLE, f"No free port between {preferred} and {preferred + 99}.")
