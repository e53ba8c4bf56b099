"""The real operator as a process of its own; what it asks beside the API server is a fake."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import kopf
import psutil
from prometheus_client.parser import text_string_to_metric_families
from tests.kubernetes.api_server import ApiServer, free_port
from tests.operator_api.fake_probes import FakeProbes
from tests.operator_api.waiting import until

from visualindex_operator.logs import quieten
from visualindex_operator.main import operate
from visualindex_operator.settings import Settings

ROOT = Path(__file__).parents[2]


@dataclass
class OperatorProcess:
    """One operator; it may be killed and started again."""

    server: ApiServer
    namespace: str
    log: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    metrics_port: int = field(default_factory=free_port)
    liveness_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> "OperatorProcess":
        """Returns when kopf handles what there is."""
        own = {
            "KUBECONFIG": str(self.server.kubeconfig),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "VISUALINDEX_OPERATOR_NAMESPACES": self.namespace,
            "VISUALINDEX_OPERATOR_IMAGE": "visualindex:test",
            "VISUALINDEX_OPERATOR_METRICS_PORT": str(self.metrics_port),
            "VISUALINDEX_OPERATOR_LIVENESS_PORT": str(self.liveness_port),
            **self.variables,
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "tests.operator_api.process"]
            environment = {**os.environ, **own}
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)  # noqa: ASYNC220
        await until(self._alive, 60, "the operator is alive")
        return self

    async def _alive(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        async with httpx.AsyncClient(trust_env=False) as http:
            try:
                found = await http.get(f"http://127.0.0.1:{self.liveness_port}/healthz")
            except httpx.TransportError:
                return False
        return found.status_code == 200

    def kill(self) -> None:
        """It gets no chance to do anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """It is asked to end, as a kubelet asks."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def rss_mib(self) -> float:
        assert self.process is not None
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20

    def cpu_seconds(self) -> float:
        assert self.process is not None
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    async def counted(self, metric: str) -> float:
        """The sum of a counter over its labels."""
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"http://127.0.0.1:{self.metrics_port}/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric
        )


def main() -> None:
    """What the process runs."""
    kopf.configure(log_format=kopf.LogFormat.FULL)
    quieten()
    operate(Settings.from_env(), FakeProbes())


if __name__ == "__main__":
    main()
