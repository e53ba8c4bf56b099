"""The proxy's wrapper: errors clients can act on, and answers although the proxy is killed. With the real HAProxy."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

from visualindex_serving.proxy import idling, rewritten

_MANAGER = (
    "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait(); input()"
)
_WRAPPER = str(Path(sys.executable).with_name("visualindex-haproxy"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def config(directory: Path, port: int, *, routes: bool = True, prefix: str = "/") -> Path:
    lines = [
        "global",
        f"    stats socket {directory}/admin.sock mode 600 level admin expose-fd listeners",
        "defaults",
        "    mode http",
        *(f"    timeout {kind} 2s" for kind in ("connect", "client", "server")),
        *(f"    errorfile {status} {directory}/500.http" for status in (502, 503, 504)),
        "frontend http_frontend",
        f"    bind 127.0.0.1:{port}",
        *([f"    use_backend http-gateway if {{ path_beg {prefix} }}"] if routes else []),
        "    default_backend default_backend",
        "backend default_backend",
        '    http-request return status 404 content-type text/plain lf-string "not found"',
    ]
    if routes:
        lines += ["backend http-gateway", "    http-reuse always", f"    server gone 127.0.0.1:{free_port()}"]
    path = directory / "haproxy.cfg"
    path.write_text("\n".join(lines) + "\n")
    return path


class Manager:
    """What Serve's proxy actor is to the wrapper: its parent."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-c", _MANAGER, _WRAPPER, "-db", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.proxy = int(self.process.stdout.readline())

    def end(self) -> None:
        for pid in (self.proxy, self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.communicate()


@pytest.fixture
def managers() -> Iterator[Callable[..., Manager]]:
    started: list[Manager] = []

    def start(*arguments: str) -> Manager:
        started.append(Manager(*arguments))
        return started[-1]

    yield start
    for manager in started:
        manager.end()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A folder with a short path: HAProxy's sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="vip-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        yield folder
        current = folder / "current.pid"
        proxies = [file.read_text() for file in (current, folder / "stand-in.pid") if file.exists()]
        current.write_text("none")  # no guardian has anything left to guard
        for pid in proxies:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def answer(port: int) -> httpx.Response | None:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=5, trust_env=False)
    except httpx.TransportError:
        return None


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.05)


def test_the_proxys_own_errors_are_problem_documents(
    managers: Callable[..., Manager], directory: Path
) -> None:
    port = free_port()
    managers("-f", str(config(directory, port)))
    until(lambda: answer(port) is not None)
    found = answer(port)
    assert found is not None
    assert (found.status_code, found.headers["retry-after"]) == (503, "1")
    assert found.json()["type"].endswith("/unavailable")


def test_a_proxy_without_routes_is_unavailable_not_empty(
    managers: Callable[..., Manager], directory: Path
) -> None:
    port = free_port()
    managers("-f", str(config(directory, port, routes=False)))
    until(lambda: answer(port) is not None)
    found = answer(port)
    assert found is not None
    assert (found.status_code, found.headers["retry-after"]) == (503, "1")


def test_a_path_of_no_application_is_not_found_once_routes_are_known(
    managers: Callable[..., Manager], directory: Path
) -> None:
    port = free_port()
    managers("-f", str(config(directory, port, prefix="/shop/")))
    until(lambda: answer(port) is not None)
    found = answer(port)
    assert found is not None
    assert found.status_code == 404
    assert "retry-after" not in found.headers
    assert found.json()["type"].endswith("/not-found")


def test_searches_below_any_prefix_have_their_own_deadline_and_other_calls_have_not(
    managers: Callable[..., Manager], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUALINDEX_SEARCH_TIMEOUT_MS", "300")
    port = free_port()
    path = config(directory, port)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"server silent 127.0.0.1:{silent.getsockname()[1]}"
        path.write_text(re.sub(r"server gone \S+", address, path.read_text()))
        managers("-f", str(path))
        until(lambda: (directory / "current.pid").exists() and listening(port))
        for asked, seconds in (("/api/search", 0.3), ("/shop/api/search", 0.3), ("/api/images", 2.0)):
            started = time.monotonic()
            found = httpx.get(f"http://127.0.0.1:{port}{asked}", timeout=10, trust_env=False)
            assert found.status_code == 504
            assert seconds <= time.monotonic() - started < seconds + 1.5, asked


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_killed_proxy_is_stood_in_for_until_its_successor_knows_its_routes(
    managers: Callable[..., Manager], directory: Path
) -> None:
    port = free_port()
    first = managers("-f", str(config(directory, port)))
    until(lambda: answer(port) is not None)
    os.kill(first.proxy, signal.SIGKILL)
    until(lambda: (directory / "stand-in.pid").exists() and answer(port) is not None)
    stand_in = int((directory / "stand-in.pid").read_text())

    idle = managers("-f", str(config(directory, port, routes=False)))
    until(lambda: idle.process.poll() is None and "idle-0.sock" in (directory / "haproxy.cfg").read_text())
    found = answer(port)
    assert found is not None
    assert found.status_code == 503, "the successor without routes answered: it took the port too early"

    managers("-f", str(config(directory, port)), "-sf", str(idle.proxy))
    until(lambda: not Path(f"/proc/{stand_in}").exists())
    found = answer(port)
    assert found is not None
    assert found.status_code == 503


def test_the_rewriting_fits_the_template_of_the_installed_ray() -> None:
    template = re.sub(r"{{.*?}}", "X", HAPROXY_CONFIG_TEMPLATE)
    done = rewritten(template, Path("/errors"), search_timeout_ms=3000)
    assert {f"errorfile {s} /errors/{s}.http" for s in (502, 503, 504)} <= {
        line.strip() for line in done.splitlines()
    }
    rule = (
        "http-request set-timeout server 3000ms if { path_end /api/search } { be_name -m beg http-gateway }"
    )
    assert rule in done
    assert "return status 503 default-errorfiles" in done
    assert "return status 404" not in done
    assert "bind unix@/idle/idle-0.sock" in idling(done, Path("/idle"))
    assert re.search(r"^\s*stats socket ", template, re.MULTILINE)


def test_given_ports_are_bound_to_loopback_only() -> None:
    text = "frontend a\n    bind *:8404\nfrontend b\n    bind :9101\nfrontend c\n    bind *:8000\n"
    done = rewritten(text, Path("/errors"), loopback_ports=("8404", "9101"))
    assert re.findall(r"bind (\S+)", done) == ["127.0.0.1:8404", "127.0.0.1:9101", "*:8000"]
