"""How fast a rebuild makes images, beside the bare encoder in the same run, and the most memory it takes.

    python -m benchmarks.reindex --images 2000

Three rates take turns, so that a machine that gets slower does so for all; ratios are of their medians:

- bare: batches of pixels that are in memory already go through the encoder, on as many threads.
- plain: files that are in memory already are decoded in as many sandboxed processes, a chunk while the one before goes
  through the encoder; no object store, catalog, ledger or build. An encoder on CPU shares the cores with decoding: no
  rebuild can be faster than this.
- making: from the plan of a rebuild to its last committed chunk; whole: from the request of the job to its end. The quality
  gate is off: what it takes depends on its probes, not on the index (`benchmarks.reindex_size` tells it).

`--apart` gives the encoder one core of its own and everything else the others, as where a GPU encodes: there decoding takes
nothing from the encoder, and making is to keep it busy.

Each rate comes with the CPU milliseconds of an image, of this process, its decoders and the database server: their ratios
hold on a machine that has other work as well, where seconds do not.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from tests.postgres import running_postgres
from tests.reindexing.collection import Collection
from tests.serving.pictures import fresh_database, picture

from visualindex.catalog import EmbeddedPostgres, JobRecord, migrate
from visualindex.imaging import DecodeJob, DecodePool
from visualindex.reindexing import BatchEncoder, Ledger, Plan, measured_batch
from visualindex_jobs.encoder_tools import EncoderTools
from visualindex_jobs.reindex import Surroundings, carry_out
from visualindex_jobs.reindex_here import Here

MIB = 1024**2


class HighWater:
    """The most memory of this process and all below it: what is theirs alone (USS)."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()

    def __enter__(self) -> "HighWater":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(0.2):
            total = 0
            for one in [own, *own.children(recursive=True)]:
                try:
                    if "postgres" not in one.name():
                        total += one.memory_full_info().uss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, total)


@dataclass
class Rate:
    """Images a second, and CPU milliseconds an image, of each round."""

    per_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def add(self, images: int, seconds: float, cpu_s: float) -> None:
        """One more round."""
        self.per_s.append(images / seconds)
        self.cpu_ms.append(cpu_s / images * 1000)

    @property
    def told(self) -> dict[str, Any]:
        """Medians, how many cores it kept busy, and each round."""
        per_s, cpu_ms = statistics.median(self.per_s), statistics.median(self.cpu_ms)
        return {
            "images_per_s": round(per_s, 1),
            "cpu_ms": round(cpu_ms, 2),
            "cores": round(per_s * cpu_ms / 1000, 2),
            "each": [round(value, 1) for value in self.per_s],
        }


def ratios(rates: dict[str, Rate], over: str) -> dict[str, float]:
    """Of images a second, and, inversely, of CPU time."""
    base = rates[over]
    found = {}
    for name, rate in rates.items():
        if name != over:
            found[name] = statistics.median(rate.per_s) / statistics.median(base.per_s)
            found[f"{name}, by CPU time"] = statistics.median(base.cpu_ms) / statistics.median(rate.cpu_ms)
    return {name: round(value, 3) for name, value in found.items()}


class Cores:
    """All cores for all, or one for the encoder's threads and the others for the rest (`apart`)."""

    def __init__(self, server: EmbeddedPostgres, *, apart: bool) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.threads = 1 if apart else len(cores)
        self._server = psutil.Process(server.pid)
        self._ended = threading.Event()
        if apart:
            assert len(cores) > 1, "--apart needs two cores"
            self._rest(cores[1:])
            threading.Thread(target=self._keep, args=(cores[0],), daemon=True).start()

    def _rest(self, cores: list[int]) -> None:
        for process in (psutil.Process(), self._server, *self._server.children()):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, cores)

    def _keep(self, core: int) -> None:
        """Threads of an encoder are started with the others' cores: see to it soon after."""
        while not self._ended.wait(0.02):
            for thread in threading.enumerate():
                if thread.name.startswith("encode") and thread.native_id is not None:
                    with suppress(ProcessLookupError):
                        os.sched_setaffinity(thread.native_id, {core})

    def cpu_s(self) -> float:
        """CPU seconds so far of this process, of all below it, and of the database server's."""
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        known = {process.pid for process in processes}
        processes += [one for one in (self._server, *self._server.children()) if one.pid not in known]
        return sum(_cpu_s(process) for process in processes)

    def end(self) -> None:
        """Leave threads where they are."""
        self._ended.set()


def _cpu_s(process: psutil.Process) -> float:
    """With the processes that it reaped."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def bare(front: BatchEncoder, pixels: NDArray[np.uint8], seconds: float) -> int:
    """Send pixels through the encoder alone for so long; returns how many images."""
    begun, images = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        front.encode(pixels)
        images += len(pixels)
    return images


async def plain(
    front: BatchEncoder, pool: DecodePool, files: Sequence[bytes], chunk: int, *, decoders: int
) -> None:
    """Decode chunk by chunk while the one before is encoded."""
    gate = asyncio.Semaphore(4 * decoders)

    async def one(data: bytes) -> NDArray[np.uint8]:
        async with gate:
            decoded = await pool.decode(DecodeJob(data, front.encoder.input, colours=True))
        assert decoded.pixels is not None
        return decoded.pixels

    async def decoded(part: Sequence[bytes]) -> NDArray[np.uint8]:
        return np.stack(await asyncio.gather(*(one(data) for data in part)))

    parts = [files[start : start + chunk] for start in range(0, len(files), chunk)]
    upcoming = [asyncio.create_task(decoded(part)) for part in parts[:1]]
    for place in range(len(parts)):
        pixels = await upcoming.pop()
        upcoming = [asyncio.create_task(decoded(part)) for part in parts[place + 1 : place + 2]]
        await asyncio.to_thread(front.encode, pixels)


async def making_s(things: Collection, job: JobRecord) -> float:
    """Seconds from the moment when the plan came into force to the last committed chunk."""

    async def work(connection: Any) -> float:
        query = """SELECT extract(epoch FROM (SELECT max(committed_at) FROM job_chunks WHERE job_id = %(job)s)
            - (SELECT ledger_at FROM jobs WHERE job_id = %(job)s))"""
        row = await (await connection.execute(query, {"job": job.job_id})).fetchone()
        return float(row[0])

    return await things.catalog.connections.read(work)


class _Timed(Here):
    """A conveyor that notes the CPU time of making."""

    def __init__(self, cores: Cores, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cores = cores
        self.cpu_s = 0.0

    async def make(self, plan: Plan, chunks: Sequence[int]) -> AsyncGenerator[int]:
        """See `Conveyor`."""
        before = self._cores.cpu_s()
        async with aclosing(super().make(plan, chunks)) as made:
            async for chunk in made:
                yield chunk
        self.cpu_s += self._cores.cpu_s() - before


async def rebuild(things: Collection, around: Surroundings, cores: Cores, rates: dict[str, Rate]) -> None:
    """One rebuild, from nothing but originals."""
    await things.forget()
    begun, cpu = time.perf_counter(), cores.cpu_s()
    job = await things.claimed()
    ledger = Ledger(things.store, around.resource.name, str(job.job_id))
    async with _Timed(cores, around.resource, ledger, around.cache_dir, threads=cores.threads) as here:
        await carry_out(around, job, here)
        took, used = time.perf_counter() - begun, cores.cpu_s() - cpu
    ended = await things.catalog.get_job(around.resource.name, job.job_id)
    assert ended.state == "done", ended.problem
    assert ended.result is not None
    made = ended.result["encoded"]
    rates["whole"].add(made, took, used)
    rates["making"].add(made, await making_s(things, ended), here.cpu_s)


async def run(dsn: str, root: Path, cores: Cores, arguments: argparse.Namespace) -> dict[str, Any]:
    """Take turns and give the medians."""
    await migrate(dsn)
    (root / "cached").mkdir()
    size = arguments.width, arguments.width * 3 // 4
    async with Collection(dsn, root, root / "cached") as things:
        for seed in range(arguments.images):
            await things.put(seed, data=picture(seed, size))
        files = [picture(seed, size) for seed in range(min(arguments.images, 1_024))]
        rebuilding = {"chunkImages": arguments.chunk, "batchSize": None, "decodeWorkers": arguments.decoders}
        spec: dict[str, Any] = {"reindex": {**rebuilding, "gate": {"mode": "off"}}}
        if arguments.patches:
            spec["rerank"] = {"mode": "always"}
        around = things.around(**spec)
        tools = EncoderTools.open(around.resource, things.cache_dir, None, cores.threads)
        batch = measured_batch(tools.encoder, tools.packing, around.resource.spec.encoder.max_batch_size)
        front = BatchEncoder(tools.encoder, tools.packing, batch)
        pool = DecodePool(arguments.decoders, around.resource.spec.limits)
        await pool.start()
        shape = tools.encoder.input
        pixels = np.random.default_rng(0).integers(0, 256, (128, shape.height, shape.width, 3), np.uint8)
        await plain(front, pool, files[: arguments.chunk], arguments.chunk, decoders=arguments.decoders)
        rates = {name: Rate() for name in ("bare", "plain", "making", "whole")}
        with HighWater() as memory:
            for _ in range(arguments.rounds):
                begun, cpu = time.perf_counter(), cores.cpu_s()
                images = await asyncio.to_thread(bare, front, pixels, arguments.seconds)
                rates["bare"].add(images, time.perf_counter() - begun, cores.cpu_s() - cpu)
                begun, cpu = time.perf_counter(), cores.cpu_s()
                await plain(front, pool, files, arguments.chunk, decoders=arguments.decoders)
                rates["plain"].add(len(files), time.perf_counter() - begun, cores.cpu_s() - cpu)
                await rebuild(things, around, cores, rates)
        await pool.close()
        front.shut()
        tools.encoder.close()
    return {
        "images": arguments.images,
        "encoder_threads": cores.threads,
        "apart": arguments.apart,
        "batch": batch,
        **{name: rate.told for name, rate in rates.items()},
        "over_bare": ratios(rates, "bare"),
        "over_plain": ratios({name: rate for name, rate in rates.items() if name != "bare"}, "plain"),
        "memory_high_water_mib": round(memory.bytes / MIB),
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--decoders", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--patches", action="store_true")
    parser.add_argument(
        "--apart", action="store_true", help="a core for the encoder, the others for the rest"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vi-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        with running_postgres(root / "state") as server, fresh_database(server) as dsn:
            cores = Cores(server, apart=arguments.apart)
            try:
                print(json.dumps(asyncio.run(run(dsn, root, cores, arguments)), indent=2))
            finally:
                cores.end()


if __name__ == "__main__":
    main()
