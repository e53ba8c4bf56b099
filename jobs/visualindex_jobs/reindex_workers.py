"""The processes that make chunks on a Ray cluster. Each takes blocks of one row, the number of a chunk.

Two chunks are at work in a process: while one is encoded, the next is fetched and decoded and the one before is stored.
"""

import logging
import os
import pickle
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from visualindex import credentials
from visualindex.credentials import Credentials
from visualindex.encoders import input_of
from visualindex.imaging import DecodePool, InputSpec
from visualindex.objectstore import open_store
from visualindex.reindexing import BatchEncoder, Ledger, Plan, Prepared, Preparer, finish
from visualindex.spec import VisualIndex
from visualindex_jobs import notice
from visualindex_jobs.background_loop import BackgroundLoop
from visualindex_jobs.encoder_tools import EncoderTools, fetching
from visualindex_jobs.reindex_here import refuse_other_hardware

logger = logging.getLogger(__name__)

AT_ONCE = 2
"""Chunks at work in a process."""
_NICENESS = 10


@dataclass(frozen=True)
class Setup:
    """What a process is told. `beside` says that searches run on the same cores, which go first."""

    document: dict[str, Any]
    job_id: str
    plan: Plan
    beside: bool


class _Process:
    """What all of them open: the job's ledger, by the credentials of the node."""

    def __init__(self, setup: Setup) -> None:
        if setup.beside:
            os.nice(_NICENESS)
        self.resource = VisualIndex.model_validate(setup.document)
        self.plan = setup.plan
        self.loop = BackgroundLoop()
        self.access: Credentials = self.loop.run(credentials.from_environment())
        self.state = Path(os.environ.get("VISUALINDEX_STATE_DIR", "/var/lib/visualindex"))
        storage = self.resource.spec.storage
        store = open_store(storage, default_folder=self.state / "objects", credentials=self.access)
        patience_s = self.resource.spec.reindex.patience_seconds
        self.ledger = Ledger(store, self.resource.name, setup.job_id, patience_s=patience_s)

    @property
    def cache_dir(self) -> Path:
        return self.state / "cache"


class _Preparing:
    """Fetches and decodes."""

    def __init__(self, process: _Process, input_: InputSpec) -> None:
        spec = process.resource.spec
        self._process = process
        pool = DecodePool(spec.reindex.decode_workers, spec.limits)
        process.loop.run(pool.start())
        workers = spec.reindex.decode_workers
        self._preparer = Preparer(process.ledger, process.resource.name, pool, workers, input_)

    def prepare(self, chunk: int) -> Prepared:
        return self._process.loop.run(self._prepared(chunk))

    async def _prepared(self, chunk: int) -> Prepared:
        todo = await self._process.ledger.todo(self._process.plan.name, chunk)
        return await self._preparer.prepare(todo)


class _Encoding:
    """Encodes, one chunk at a time, and stores."""

    def __init__(self, process: _Process, tools: EncoderTools) -> None:
        refuse_other_hardware(process.plan, process.resource.spec)
        self._process = process
        batch = process.plan.recipe.batch
        self._front = BatchEncoder(tools.encoder, tools.packing, batch, apart=process.loop.cpu_s)
        self._turn = threading.Lock()

    def finish(self, chunk: int, prepared: Prepared) -> None:
        process = self._process
        with self._turn:
            logger.info("encoding chunk %d of plan %s", chunk, process.plan.name)
            done = finish(prepared, self._front, process.resource.spec.encoder.num_gpus)
        process.loop.run(process.ledger.put_done(process.plan.name, chunk, done))


class Maker:
    """Makes whole chunks: decoders and encoder are on one machine, and no pixels travel."""

    def __init__(self, setup: Setup) -> None:
        process = _Process(setup)
        tools = _tools(process)
        self._encoding = _Encoding(process, tools)
        self._preparing = _Preparing(process, tools.encoder.input)

    def __call__(self, block: pa.Table) -> pa.Table:
        chunk = _chunk(block)
        with notice.staying():
            self._encoding.finish(chunk, self._preparing.prepare(chunk))
        return _row(chunk)


class Decoder:
    """The first half of a chunk, for encoders elsewhere."""

    def __init__(self, setup: Setup) -> None:
        process = _Process(setup)
        fetch = fetching(process.resource, process.access)
        self._preparing = _Preparing(
            process, input_of(process.resource.spec.encoder, process.cache_dir, fetch)
        )

    def __call__(self, block: pa.Table) -> pa.Table:
        chunk = _chunk(block)
        buffers: list[pickle.PickleBuffer] = []
        with notice.staying():
            prepared = pickle.dumps(
                self._preparing.prepare(chunk), protocol=5, buffer_callback=buffers.append
            )
        (pixels,) = buffers
        return _row(chunk, prepared=_large(prepared), pixels=_large(pixels))


class Encoder:
    """The second half."""

    def __init__(self, setup: Setup) -> None:
        process = _Process(setup)
        self._encoding = _Encoding(process, _tools(process))

    def __call__(self, block: pa.Table) -> pa.Table:
        chunk = _chunk(block)
        prepared, pixels = (block[name][0].as_buffer() for name in ("prepared", "pixels"))
        with notice.staying():
            self._encoding.finish(chunk, pickle.loads(prepared, buffers=[pixels]))  # noqa: S301 - of the stage before
        return _row(chunk)


def _tools(process: _Process) -> EncoderTools:
    return EncoderTools.open(process.resource, process.cache_dir, process.access, process.plan.recipe.threads)


def _chunk(block: pa.Table) -> int:
    return int(block["chunk"][0].as_py())


def _row(chunk: int, **columns: pa.Array) -> pa.Table:
    return pa.table({"chunk": pa.array([chunk], pa.int64()), **columns})


def _large(data: Any) -> pa.Array:
    """One binary value of any size, not copied."""
    buffer = pa.py_buffer(data)
    ends = pa.py_buffer(np.array([0, buffer.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, buffer])
