"""A simulated cluster per test, and a client of its API."""

from collections.abc import AsyncIterator

import pytest

from visualindex_operator.serve_api import ServeAPI

from .simulated_serve import SimulatedServe, simulated_serve

TOKEN = "a-token-of-the-cluster"


@pytest.fixture
async def cluster() -> AsyncIterator[SimulatedServe]:
    async with simulated_serve(token=TOKEN) as cluster:
        yield cluster


@pytest.fixture
async def api(cluster: SimulatedServe) -> AsyncIterator[ServeAPI]:
    async with ServeAPI(cluster.url, TOKEN) as api:
        yield api
