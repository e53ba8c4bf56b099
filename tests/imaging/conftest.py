"""Shared by the imaging tests: the folder's own picture module, and pools that always end."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from visualindex.imaging import DecodePool
from visualindex.spec import LimitsSpec

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    """One worker and a spare, with limits small enough to reach."""
    pool = DecodePool(1, LimitsSpec(image_pixels=4_000_000, decode_timeout_ms=60_000))
    await pool.start()
    yield pool
    await pool.close()
