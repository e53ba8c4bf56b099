"""A real kube-apiserver for tests: etcd and the API server on free ports of loopback, no node and no controllers."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import trustme
import yaml
from kubernetes import client, config
from urllib3.exceptions import HTTPError

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@dataclass(frozen=True)
class Answer:
    """What the API server answered."""

    status: int
    body: dict[str, Any]

    @property
    def message(self) -> str:
        """The text of a refusal; empty for anything else."""
        return str(self.body.get("message", "")) if self.status >= 400 else ""

    def expect(self, status: int) -> dict[str, Any]:
        """The body, when the status is the expected one."""
        assert self.status == status, f"{self.status}: {self.message}"
        return self.body


@dataclass(frozen=True)
class ApiServer:
    """An API server, by the kubeconfig that leads to it."""

    kubeconfig: Path

    @cached_property
    def client(self) -> client.ApiClient:
        """The official client; it refuses nothing by itself."""
        return config.new_client_from_config(str(self.kubeconfig))

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        **query: str,
    ) -> Answer:
        """One request; `query` holds parameters such as `dryRun`. Never raises for an HTTP status."""
        headers = {"Accept": accept, "Content-Type": content_type}
        request = self.client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        response = self.client.call_api(*request)
        data = response.read()
        return Answer(
            response.status, json.loads(data) if data.startswith(b"{") else {"message": data.decode()}
        )


@dataclass
class OwnApiServer:
    """The two processes, their certificates and their data below one folder."""

    binaries: Mapping[str, str]
    """Path of `etcd` and of `kube-apiserver`."""
    folder: Path
    port: int = field(default_factory=lambda: free_port())
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> ApiServer:
        etcd, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._run(
            "etcd", "--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}",
        )  # fmt: skip
        server = ApiServer(self._credentials())
        self._run(
            "kube-apiserver", f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}", "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount",
            f"--tls-cert-file={self.folder}/server.crt", f"--tls-private-key-file={self.folder}/server.key",
            f"--token-auth-file={self.folder}/tokens.csv", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder}/server.key",
            f"--service-account-signing-key-file={self.folder}/server.key",
        )  # fmt: skip
        self._wait_until_ready(server)
        return server

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.log").open("wb") as log:
            command = [self.binaries[program], *arguments]
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder))

    def _credentials(self) -> Path:
        """The kubeconfig of an administrator, after the files that it and the server need."""
        authority, token = trustme.CA(), secrets.token_hex(16)
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(self.folder / "ca.crt")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "server.crt")
        certificate.private_key_pem.write_to_path(self.folder / "server.key")
        (self.folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        cluster = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority": str(self.folder / "ca.crt"),
        }
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig))
        return path

    def _wait_until_ready(self, server: ApiServer) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for process in self.processes:
                assert process.poll() is None, f"{process.args!r} ended; see {self.folder}"
            try:
                if server.request("GET", "/readyz").status == 200:
                    return
            except HTTPError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"kube-apiserver was not ready within 120 s; see {self.folder}")


def find_binaries() -> dict[str, str] | None:
    """`etcd` and `kube-apiserver` in the folder that KUBEBUILDER_ASSETS names, or on PATH."""
    places = os.environ.get("KUBEBUILDER_ASSETS") or os.environ["PATH"]
    found = {name: shutil.which(name, path=places) for name in ("etcd", "kube-apiserver")}
    return {name: path for name, path in found.items() if path} if all(found.values()) else None


@contextmanager
def running(folder: Path, binaries: Mapping[str, str]) -> Iterator[ApiServer]:
    """An API server of one's own, ended with the block."""
    own = OwnApiServer(binaries, folder)
    try:
        yield own.start()
    finally:
        own.stop()


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
