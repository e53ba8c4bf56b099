"""A local service to measure: started from the command line as its users start it, taken apart by role."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

from visualindex.catalog import EmbeddedPostgres
from visualindex.local.processes import kill_stack, of_stack
from visualindex.local.state import StateDir
from visualindex.spec import API_VERSION, KIND

Role = Literal["gateway", "decode worker", "shard", "encoder", "proxy", "postgres", "ray", "supervisor"]
START_S = 400.0
"""Longest wait for a start: two tries of the supervisor on a very busy machine."""

_POLL_S = 0.2


@dataclass
class Stack:
    """One `visualindex up` on 127.0.0.1 and its processes."""

    folder: Path
    port: int
    spec: dict[str, Any] = field(default_factory=dict)
    name: str = "images"
    _supervisor: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> StateDir:
        """Its state directory."""
        return StateDir.at(self.folder)

    @property
    def dsn(self) -> str:
        """Its database."""
        return EmbeddedPostgres(self.folder).dsn

    @property
    def log(self) -> str:
        """What the supervisor has said."""
        return self._log_file.read_text(errors="replace")

    @property
    def document(self) -> dict[str, Any]:
        """The resource that it serves."""
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": self.name}, "spec": self.spec}

    @property
    def _log_file(self) -> Path:
        """Beside the state, not in it: the state's disk may be full."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def launch(self) -> None:
        """Start the supervisor in the background."""
        self.folder.mkdir(parents=True, exist_ok=True)
        spec = self.folder / "spec.json"  # JSON is YAML
        spec.write_text(json.dumps(self.document))
        command = [str(Path(sys.executable).with_name("visualindex")), "up", "-f", str(spec)]
        command += ["--state", str(self.folder), "--port", str(self.port)]
        with self._log_file.open("ab") as log:
            self._supervisor = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def start(self) -> float:
        """Start and wait until searches are answered; returns the seconds it took. Raises RuntimeError."""
        started = time.monotonic()
        self.launch()
        self.until(self.ready, "the service answers", START_S)
        return time.monotonic() - started

    def stop(self) -> None:
        """End it in good order, and kill what is left."""
        if self._supervisor is not None:
            self._supervisor.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(60)
        self.kill_everything()

    def kill_everything(self) -> None:
        """SIGKILL the supervisor and every other process of the stack."""
        if self._supervisor is not None:
            self._supervisor.kill()
            self._supervisor.wait(10)
            self._supervisor = None
        for process in [*self.of("decode worker"), *self.of("postgres")]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        kill_stack(self.state.mark)

    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return self._supervisor is not None and self._supervisor.poll() is None

    def ready(self) -> bool:
        """Whether every index can be searched."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=3, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def until(self, condition: Callable[[], bool], what: str, limit_s: float) -> None:
        """Wait for a condition. Raises RuntimeError with the supervisor's words when it does not come or it ended."""
        until = time.monotonic() + limit_s
        while not condition():
            if not self.alive():
                raise RuntimeError(f"the service ended while waiting until {what}:\n{self.log[-2000:]}")
            if time.monotonic() > until:
                raise RuntimeError(f"not within {limit_s:.0f} s: {what}\n{self.log[-2000:]}")
            time.sleep(_POLL_S)

    def of(self, role: Role) -> list[psutil.Process]:
        """The live processes of a role, in the order of their start."""
        return sorted(self.processes().get(role, []), key=lambda p: p.pid)

    def processes(self) -> dict[Role, list[psutil.Process]]:
        """Every process of the stack by role. Decode workers and database backends are found below their parents."""
        found: dict[Role, list[psutil.Process]] = {}
        marked = of_stack(self.state.mark)
        below = [child for p in marked if _role(p) in ("gateway", "postgres") for child in _children(p)]
        own = [] if not self.alive() or self._supervisor is None else [psutil.Process(self._supervisor.pid)]
        seen: set[int] = set()
        for process in [*own, *below, *marked]:
            if process.pid in seen or not _runs(process):
                continue
            seen.add(process.pid)
            role: Role = "supervisor" if process in own else _role(process)
            found.setdefault(role, []).append(process)
        return found

    def gateways_up(self) -> set[str]:
        """The gateway replicas the proxy sends requests to."""
        for address in self.state.sockets.glob("*/admin.sock"):
            with contextlib.suppress(OSError):
                return set(_servers_up(address))
        return set()


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _role(process: psutil.Process) -> Role:
    try:
        name, line = process.name(), " ".join(process.cmdline())
    except psutil.Error:
        return "ray"
    if name == "postgres":
        return "postgres"
    signs: tuple[tuple[str, Role], ...] = (
        ("visualindex.imaging.worker", "decode worker"),
        ("ray::ServeReplica:gateway", "gateway"),
        (":shard-", "shard"),
        (":encoder", "encoder"),
        ("bin/haproxy ", "proxy"),
    )
    return next((role for sign, role in signs if sign in line), "ray")


def _servers_up(address: Path) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as proxy:
        proxy.settimeout(2)
        proxy.connect(str(address))
        proxy.sendall(b"show stat\n")
        table = b"".join(iter(lambda: proxy.recv(65_536), b"")).decode()
    for line in table.splitlines():
        fields = line.split(",")
        if len(fields) > 17 and fields[1].startswith("SERVE_REPLICA_") and fields[17].startswith("UP"):
            yield fields[1]


def cpu_seconds(processes: dict[Role, list[psutil.Process]]) -> dict[int, float]:
    """CPU seconds, user and system, by process id: /proc/PID/stat of every process given."""
    tick = os.sysconf("SC_CLK_TCK")
    seconds = {}
    for process in (p for group in processes.values() for p in group):
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            seconds[process.pid] = (int(fields[11]) + int(fields[12])) / tick
    return seconds


def end_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP end this process in order, so that the stack it started ends with it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
