"""`visualindex down` and `status`: what runs in a state directory, and how it ends."""

import contextlib
import os
from pathlib import Path
from typing import Any

import httpx
import psutil

from visualindex.local.processes import end, kill_stack, of_stack
from visualindex.local.state import StateDir

_PATIENCE_S = 30.0


def stop(path: Path) -> str:
    """End the supervisor, which ends the rest; then whatever is left of the stack. Returns a line to show."""
    state = StateDir.at(path)
    running = state.read_running()
    supervisor = None if running is None else _supervisor(state, running.pid)
    if supervisor is not None:
        end([supervisor], patience_s=_PATIENCE_S)
    left = kill_stack(state.mark, keep=frozenset({os.getpid()}))
    state.running_file.unlink(missing_ok=True)
    if supervisor is None and not left:
        return f"nothing runs in {state.path}"
    return f"stopped the service in {state.path}"


def _supervisor(state: StateDir, pid: int) -> psutil.Process | None:
    """The process if it holds the lock of the directory: after a crash its id may be another program's."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if any(file.path == str(state.lock_file) for file in process.open_files()):
            return process
    return None


def report(path: Path) -> dict[str, Any]:
    """State (`ready`, `unready`, `stopped`), address, indexes and processes of the stack in a directory."""
    state = StateDir.at(path)
    running = state.read_running()
    if running is None or _supervisor(state, running.pid) is None:
        return {"state": "stopped", "directory": str(state.path), "processes": len(of_stack(state.mark))}
    try:
        readiness = httpx.get(f"{running.url}/readyz", timeout=3, trust_env=False).json()
        if "reasons" not in readiness:  # the proxy's own answer while it knows no gateway
            readiness = {"status": "unready", "reasons": {"gateway": readiness.get("detail", "no answer")}}
    except (httpx.HTTPError, ValueError) as exc:
        readiness = {"status": "unready", "reasons": {"gateway": str(exc) or type(exc).__name__}}
    return {
        "state": readiness["status"],
        "url": running.url,
        "metrics": f"http://127.0.0.1:{running.metrics_port}/metrics",
        "indexes": running.indexes,
        "reasons": readiness["reasons"],
        "processes": len(of_stack(state.mark)),
    }
