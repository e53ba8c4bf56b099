"""A gateway on a loopback port: the in-process service of the serving tests, reachable by a browser."""

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
from tests.serving.conftest import InProcess, in_this_process
from tests.serving.pictures import fresh_database

from visualindex.catalog import EmbeddedPostgres, migrate
from visualindex.spec import VisualIndex
from visualindex_serving.gateway import create_app

CHROMIUM = Path(os.environ.get("VISUALINDEX_CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Site:
    """A gateway on a loopback port: its address, its catalog's and a client with the key that was asked for."""

    address: str
    dsn: str
    http: httpx.Client

    def put(self, data: bytes, *, index: str, **fields: str) -> str:
        """Index a picture; its write's token."""
        files = {"image": ("picture", data)}
        answer = self.http.post("/api/images", files=files, data={"index": index, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def catch_up(self, token: str, data: bytes, *, index: str) -> None:
        """Wait until searches see the write."""
        fields = {"index": index, "token": token, "limit": "1"}
        answer = self.http.post("/api/search", files={"image": ("picture", data)}, data=fields)
        assert answer.status_code == 200, answer.text


@contextmanager
def serve_site(
    server: EmbeddedPostgres, state: Path, cache: Path, documents: list[dict[str, Any]]
) -> Iterator[Site]:
    """A gateway for the documents over a fresh database, with its objects below `state`."""
    (state / "cache").symlink_to(cache)
    with fresh_database(server) as dsn, pytest.MonkeyPatch.context() as patch:
        for name, value in _environment(dsn, state).items():
            patch.setenv(name, value)
        with _listening(dsn, state, documents) as address, httpx.Client(base_url=address, timeout=60) as http:
            yield Site(address, dsn, http)


def _environment(dsn: str, state: Path) -> Mapping[str, str]:
    return {
        "VISUALINDEX_MODE": "local",
        "VISUALINDEX_LISTEN_HOST": "127.0.0.1",
        "VISUALINDEX_POSTGRES_DSN": dsn,
        "VISUALINDEX_STATE_DIR": str(state),
    }


@contextmanager
def _listening(dsn: str, state: Path, documents: list[dict[str, Any]]) -> Iterator[str]:
    """The gateway in a thread with an event loop of its own; requests wait in the socket's queue until it is up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers: list[uvicorn.Server] = []

        async def run() -> None:
            await migrate(dsn)
            async with AsyncExitStack() as stack:
                resources = [VisualIndex.model_validate(d) for d in documents]
                shards = InProcess(dsn, resources, state, stack)
                app = create_app(documents, shards.connect, run_job=in_this_process(dsn, state))
                servers.append(uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none")))
                await servers[0].serve(sockets=[listener])

        thread = Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            httpx.get(f"{address}/readyz", timeout=120).raise_for_status()
            yield address
        finally:
            for running in servers:
                running.should_exit = True
            thread.join()
