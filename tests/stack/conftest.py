"""One whole local service for all tests of this folder, and the ledger of what it acknowledged."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.chaos import service
from benchmarks.ledger import Ledger
from benchmarks.stack import Stack

PORT = 8440


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="vi-stack-") as folder,
        service(Path(folder) / "state", PORT) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    return Ledger()
