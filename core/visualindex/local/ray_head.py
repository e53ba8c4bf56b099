"""The Ray head of a local stack: started, watched, ended."""

import json
import os
import subprocess
import sys
from typing import Any

from visualindex.local.ports import pick
from visualindex.local.processes import kill_stack
from visualindex.local.state import StateDir
from visualindex.serve_config import CANNOT_DEPLOY

METRICS_PORT = 8480
"""Where the metrics agent listens, or on the next free port above."""

_OBJECT_STORE_BYTES = 128 * 1024**2
_LOG_TAIL = 3000


class RayHead:
    """One `visualindex_serving.head` process and everything under it."""

    def __init__(
        self, state: StateDir, environment: dict[str, str], cpus: int, metrics_port: int = METRICS_PORT
    ) -> None:
        self._state = state
        self._cpus = cpus
        self._process: subprocess.Popen[bytes] | None = None
        self.metrics_port = pick(metrics_port)
        self._environment = {**environment, "VISUALINDEX_METRICS_PORT": str(self.metrics_port)}

    def start(self, serve_config: dict[str, Any]) -> None:
        """Start the head in the background with the applications it is to run; its output goes to logs/ray.log."""
        self._state.logs.mkdir(exist_ok=True)
        self._state.make_sockets_folder()
        self._state.forget_sessions()
        settings = self._state.path / "serve.json"
        settings.write_text(
            json.dumps({"serve": serve_config, "node": self._node()}, indent=2, sort_keys=True)
        )
        command = [sys.executable, "-m", "visualindex_serving.head", str(settings)]
        with (self._state.logs / "ray.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _node(self) -> dict[str, Any]:
        return {
            "num_cpus": self._cpus,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_metrics_export_port": self.metrics_port,
            "_temp_dir": str(self._state.ray_temp),
        }

    def alive(self) -> bool:
        """Whether the head's own process runs."""
        return self._process is not None and self._process.poll() is None

    def refusal(self) -> str | None:
        """Why an application cannot be deployed, in one line, once the head has ended for that; None otherwise."""
        if self._process is None or self._process.poll() != CANNOT_DEPLOY:
            return None
        return self.last_words().strip().rpartition("\n")[2]

    def last_words(self) -> str:
        """The end of the head's log."""
        log = self._state.logs / "ray.log"
        return log.read_text(errors="replace")[-_LOG_TAIL:] if log.exists() else ""

    def kill(self, *, keep: frozenset[int]) -> None:
        """End the head and every process of the stack but `keep`: Ray leaves its proxy behind when it stops by itself."""
        kill_stack(self._state.mark, keep=keep | {os.getpid()})
        if self._process is not None:
            self._process.wait(timeout=10)
            self._process = None
