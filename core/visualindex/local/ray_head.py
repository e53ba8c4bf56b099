"""The Ray head of a local stack: started, told what to serve, watched, ended."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from visualindex.local.ports import pick
from visualindex.local.processes import kill_stack
from visualindex.local.state import StateDir

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class RayPorts:
    """Ports of the head, all on loopback."""

    gcs: int
    dashboard: int
    client: int
    metrics: int

    @classmethod
    def choose(cls) -> "RayPorts":
        """Free ports near Ray's defaults."""
        gcs = pick(6390)
        dashboard = pick(8265)
        return cls(gcs, dashboard, pick(10001), pick(8480, taken=frozenset({gcs, dashboard})))


class RayHead:
    """One `ray start --head --block` and everything under it."""

    def __init__(self, state: StateDir, environment: dict[str, str], cpus: int) -> None:
        self._state = state
        self._environment = environment
        self._cpus = cpus
        self._process: subprocess.Popen[bytes] | None = None
        self.ports = RayPorts.choose()

    @property
    def dashboard_url(self) -> str:
        """Where the REST API listens."""
        return f"http://{_LOOPBACK}:{self.ports.dashboard}"

    def start(self) -> None:
        """Start the head in the background; its output goes to logs/ray.log."""
        self._state.logs.mkdir(exist_ok=True)
        with (self._state.logs / "ray.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def _command(self) -> list[str]:
        ports = self.ports
        return [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
            *("--node-ip-address", _LOOPBACK, "--port", str(ports.gcs)),
            *("--dashboard-host", _LOOPBACK, "--dashboard-port", str(ports.dashboard)),
            *("--ray-client-server-port", str(ports.client), "--metrics-export-port", str(ports.metrics)),
            *("--num-cpus", str(self._cpus), "--disable-usage-stats"),
            *("--object-store-memory", str(256 * 1024**2), "--temp-dir", str(self._state.ray_temp)),
        ]

    def alive(self) -> bool:
        """Whether the head's own process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self, *, keep: frozenset[int]) -> None:
        """End the head and every process of the stack but `keep`: Ray leaves its proxy behind when it stops by itself."""
        kill_stack(self._state.mark, keep=keep | {os.getpid()})
        if self._process is not None:
            self._process.wait(timeout=10)
            self._process = None

    def put_applications(self, config: dict[str, Any]) -> bool:
        """Tell Serve what to run. False while the REST API does not answer yet; raises httpx.HTTPStatusError if refused."""
        try:
            answer = self._request("PUT", json=config)
        except httpx.TransportError:
            return False
        if answer.status_code >= 500:
            return False
        answer.raise_for_status()
        return True

    def application_states(self) -> dict[str, tuple[str, str]]:
        """Name → (status, message) of every application; empty while the REST API does not answer."""
        try:
            answer = self._request("GET")
            applications = answer.raise_for_status().json()["applications"]
        except (httpx.HTTPError, KeyError, ValueError):
            return {}
        return {name: (app["status"], app["message"]) for name, app in applications.items()}

    def _request(self, method: str, **parts: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._state.token()}"}
        url = f"{self.dashboard_url}/api/serve/applications/"
        return httpx.request(method, url, headers=headers, timeout=30, trust_env=False, **parts)
