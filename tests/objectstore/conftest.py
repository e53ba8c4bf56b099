"""A real MinIO server and one opened store per implementation."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3
from minio import Minio

from visualindex.objectstore import LocalObjectStore, ObjectStore
from visualindex.objectstore.s3 import S3ObjectStore
from visualindex.spec.models import S3Spec


@dataclass
class MinioServer:
    """One MinIO process on loopback that can be killed and started again on the same port and data."""

    binary: str
    data: Path
    access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20))
    port: int = field(default_factory=lambda: free_port())
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.data),
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            **self.settings,
        }
        command = [self.binary, "server", str(self.data), "--address", self.endpoint, "--quiet"]
        with (self.data.parent / "minio.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._wait_until_ready()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self) -> Minio:
        return Minio(self.endpoint, self.access_key, self.secret_key, secure=False, region="us-east-1")

    def new_bucket(self) -> str:
        bucket = f"bucket-{secrets.token_hex(6)}"
        self.client().make_bucket(bucket)
        return bucket

    def spec(self, bucket: str, prefix: str = "") -> S3Spec:
        return S3Spec(endpoint=self.endpoint, bucket=bucket, prefix=prefix, secure=False)

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 60
        with urllib3.PoolManager(retries=False, timeout=2) as http:
            while time.monotonic() < deadline:
                assert self.process.poll() is None, (self.data.parent / "minio.log").read_text()
                try:
                    if http.request("GET", f"http://{self.endpoint}/minio/health/ready").status == 200:
                        return
                except urllib3.exceptions.HTTPError:
                    time.sleep(0.05)
        raise AssertionError("MinIO was not ready within 60 s")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def minio_binary() -> str:
    """The server's path; without one the test skips, except in continuous integration, where it fails."""
    binary = os.environ.get("VISUALINDEX_MINIO") or shutil.which("minio")
    if binary and os.access(binary, os.X_OK):
        return binary
    message = "no MinIO server: set VISUALINDEX_MINIO to its path or put `minio` on PATH"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def shared_minio(minio_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """One server for all tests that leave it running."""
    server = MinioServer(minio_binary, _data_folder(tmp_path_factory.mktemp("minio")))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def own_minio(minio_binary: str, tmp_path: Path) -> Iterator[MinioServer]:
    """A server of the test's own, to be killed and restarted."""
    server = MinioServer(minio_binary, _data_folder(tmp_path))
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _data_folder(parent: Path) -> Path:
    folder = parent / "data"
    folder.mkdir()
    return folder


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.minio)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """An empty store of each implementation."""
    if request.param == "local":
        opened: ObjectStore = LocalObjectStore(tmp_path / "store")
    else:
        server: MinioServer = request.getfixturevalue("shared_minio")
        opened = S3ObjectStore(
            server.spec(server.new_bucket(), "some/prefix"), server.access_key, server.secret_key
        )
    yield opened
    await opened.close()
