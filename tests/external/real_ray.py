"""A Ray head with token authentication, begun by `ray start` as on a cluster, and ended process by process."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from visualindex.local.ports import pick
from visualindex.local.processes import kill_stack, of_stack
from visualindex.local.state import MARK, StateDir

TOKEN = "0123456789abcdef0123456789abcdef"
_HERE = Path(__file__).parent
_BIN = Path(sys.executable).parent
"""A submitted job begins whatever `python` its node finds: this one's."""


@dataclass(frozen=True)
class RealRay:
    """Where the cluster answers."""

    dashboard: str
    serve_port: int
    environment: dict[str, str]

    def run(self, script: str) -> None:
        """Run a script of this folder as a driver of the cluster."""
        command = [sys.executable, str(_HERE / script)]
        subprocess.run(command, env=self.environment, check=True, timeout=120, capture_output=True)


@contextmanager
def real_ray(**variables: str) -> Iterator[RealRay]:
    """A cluster of one node that may import the modules of this folder, and has these variables besides."""
    with tempfile.TemporaryDirectory(prefix="vi-external-") as folder:
        state = StateDir(Path(folder))
        state.make_sockets_folder()
        ports = _ports("gcs", "dashboard", "agent", "client", "metrics", "serve")
        environment = {
            **os.environ,
            MARK: state.mark,
            "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_HERE), os.environ.get("PYTHONPATH")])),
            "RAY_ADDRESS": f"127.0.0.1:{ports['gcs']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            **variables,
        }
        log = Path(folder) / "ray.log"
        with log.open("wb") as output:
            head = subprocess.Popen(
                _command(ports, state.ray_temp),
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            dashboard = f"http://127.0.0.1:{ports['dashboard']}"
            _wait_for(dashboard, head, log)
            yield RealRay(dashboard, ports["serve"], environment)
        finally:
            kill_stack(state.mark)
            head.wait(timeout=10)
            shutil.rmtree(state.sockets, ignore_errors=True)
        assert of_stack(state.mark) == []


def _ports(*names: str) -> dict[str, int]:
    chosen: dict[str, int] = {}
    for name in names:
        chosen[name] = pick(26810, taken=frozenset(chosen.values()))
    return chosen


def _command(ports: dict[str, int], folder: Path) -> list[str]:
    return [
        str(_BIN / "ray"),
        *("start", "--head", "--block", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"),
        *("--num-cpus=4", f"--object-store-memory={128 * 1024**2}", f"--temp-dir={folder}"),
        *("--min-worker-port=0", "--max-worker-port=0"),
        f"--port={ports['gcs']}",
        f"--dashboard-port={ports['dashboard']}",
        f"--dashboard-agent-listen-port={ports['agent']}",
        f"--ray-client-server-port={ports['client']}",
        f"--metrics-export-port={ports['metrics']}",
    ]


@retry(
    retry=retry_if_exception_type(httpx.TransportError),
    stop=stop_after_delay(1200),
    wait=wait_fixed(0.3),
    reraise=True,
)
def _wait_for(dashboard: str, head: subprocess.Popen[bytes], log: Path) -> None:
    assert head.poll() is None, f"ray start ended: {log.read_text(errors='replace')[-2000:]}"
    httpx.get(f"{dashboard}/api/ray/version", timeout=5, trust_env=False)
