"""Free ports for the parts of a local stack."""

import errno
import socket

from visualindex.errors import ProblemError, ProblemType


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port, False when another does.

    Raises ProblemError INVALID_REQUEST when nobody could: no such port, an address that is not this machine's, or a port
    that only root may have.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError:
            raise ProblemError(
                ProblemType.INVALID_REQUEST,
                f"There is no port {port}: choose one from 1 to 65535 with --port.",
            ) from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise _unusable(error, port, host) from error
    return True


def require_free(port: int, host: str = "127.0.0.1") -> None:
    """Raise ProblemError UNAVAILABLE when another listens on the port, INVALID_REQUEST when nobody could."""
    if not is_free(port, host):
        detail = f"Port {port} is in use: stop what listens there, or choose another with --port."
        raise ProblemError(ProblemType.UNAVAILABLE, detail)


def pick(preferred: int, *, taken: frozenset[int] = frozenset()) -> int:
    """The preferred port, or the next free one above it. Raises ProblemError UNAVAILABLE after a hundred."""
    for port in range(preferred, preferred + 100):
        if port not in taken and is_free(port):
            return port
    raise ProblemError(ProblemType.UNAVAILABLE, f"No free port between {preferred} and {preferred + 99}.")


def _unusable(error: OSError, port: int, host: str) -> ProblemError:
    if error.errno == errno.EACCES:
        detail = f"Port {port} is not for everybody: ports below 1024 need root. Choose another with --port."
    elif error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        detail = f"{host} is not an IPv4 address of this machine: listen on 127.0.0.1, or on 0.0.0.0 for all of them."
    else:
        detail = f"The service cannot listen on {host}, port {port}: {error.strerror or error}."
    return ProblemError(ProblemType.INVALID_REQUEST, detail)
