"""What chunks took is counted once, also when several are at work in one process."""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from visualindex.encoders import load_encoder
from visualindex.imaging import DecodePool, InputSpec
from visualindex.objectstore import LocalObjectStore
from visualindex.reindexing import BatchEncoder, Ledger, Preparer, Todo
from visualindex.spec import EncoderSpec, LimitsSpec

from .collection import NAME, number_id

_INPUT = InputSpec(height=8, width=8, resize="squash", interpolation="bilinear")
_CHUNKS, _IMAGES = 3, 100


async def test_cpu_seconds_of_chunks_side_by_side_are_those_of_their_thread(tmp_path: Path) -> None:
    """Originals that are missing cost no decoder anything: what is left is this thread's."""
    ledger = Ledger(LocalObjectStore(tmp_path), NAME, "job")
    preparer = Preparer(ledger, NAME, DecodePool(1, LimitsSpec()), 1, _INPUT)
    images = [Todo(number_id(n), n.to_bytes(32), encode=True, colours=False) for n in range(_IMAGES)]
    begun = time.thread_time()
    made = await asyncio.gather(*(preparer.prepare(images) for _ in range(_CHUNKS)))
    spent = time.thread_time() - begun
    assert [len(one.refused) for one in made] == [_IMAGES] * _CHUNKS
    assert 0 < sum(one.account.cpu_s for one in made) <= spent


@pytest.mark.torch
async def test_cpu_seconds_of_batches_are_not_those_of_the_thread_that_fetches(cache_dir: Path) -> None:
    encoder = load_encoder(EncoderSpec(runtime="torch"), cache_dir=cache_dir)
    pixels = np.zeros((4, encoder.input.height, encoder.input.width, 3), np.uint8)
    here = time.pthread_getcpuclockid(threading.get_ident())
    front = BatchEncoder(encoder, None, 2, apart=lambda: time.clock_gettime(here))
    try:
        whole, own = time.process_time(), time.thread_time()
        encoding = asyncio.create_task(asyncio.to_thread(front.encode, pixels))
        while not encoding.done():  # noqa: ASYNC110 - it is to be busy
            await asyncio.sleep(0)  # busy, as with fetching
        own = time.thread_time() - own
        whole = time.process_time() - whole
        assert 0 < encoding.result().cpu_s <= whole - own
    finally:
        front.shut()
        encoder.close()
