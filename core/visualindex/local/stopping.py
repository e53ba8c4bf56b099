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
    state = StateDir(path.resolve())
    supervisor = supervisor_of(state)
    if supervisor is not None:
        end([supervisor], patience_s=_PATIENCE_S)
    left = kill_stack(state.mark, keep=frozenset({os.getpid()}))
    state.running_file.unlink(missing_ok=True)
    if supervisor is None and not left:
        return f"nothing runs in {state.path}"
    return f"stopped the service in {state.path}"


def supervisor_of(state: StateDir) -> psutil.Process | None:
    """The process that runs the service of the directory, from its first moment on; None when nothing does.

    It is the one that holds the lock of the directory: after a crash its id may be another program's.
    """
    pid = state.locked_by()
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid) if pid is not None else None
        if process and any(file.path == str(state.lock_file) for file in process.open_files()):
            return process
    return None


def report(path: Path) -> dict[str, Any]:
    """State (`ready`, `unready`, `starting`, `stopped`), address, indexes and processes of the stack in a directory."""
    state = StateDir(path.resolve())
    supervisor, running = supervisor_of(state), state.read_running()
    if supervisor is None or running is None:
        word = "stopped" if supervisor is None else "starting"
        return {"state": word, "directory": str(state.path), "processes": len(of_stack(state.mark))}
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
