"""How fast a rebuild makes images, beside the bare encoder in the same run, and the most memory it takes.

    flock /tmp/bench.lock python -m benchmarks.reindex --images 2000

Bare: batches of pixels that are in memory already go through the encoder, on as many threads. Whole: from the request of
the job to its end. Making: from the plan to the last committed chunk, without the build. The rounds take turns, so that a
machine that gets slower does so for all; ratios are of their medians.

An encoder on CPU shares the cores with decoding: the best that a rebuild can reach there is the share of encoding in all
CPU time, and `cores_busy` tells whether it keeps them as busy as the bare encoder does.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tests.postgres import running_postgres
from tests.reindexing.collection import Collection
from tests.serving.pictures import fresh_database, picture

from visualindex.catalog import JobRecord, migrate
from visualindex.reindexing import BatchEncoder, Ledger, measured_batch
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


def bare_rate(front: BatchEncoder, pixels: np.ndarray, seconds: float) -> float:
    """Images a second of the encoder alone."""
    front.encode(pixels)
    begun, images = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        front.encode(pixels)
        images += len(pixels)
    return images / (time.perf_counter() - begun)


async def making_s(things: Collection, job: JobRecord) -> float:
    """Seconds from the moment when the plan came into force to the last committed chunk."""

    async def work(connection: Any) -> float:
        query = """SELECT extract(epoch FROM (SELECT max(committed_at) FROM job_chunks WHERE job_id = %(job)s)
            - (SELECT ledger_at FROM jobs WHERE job_id = %(job)s))"""
        row = await (await connection.execute(query, {"job": job.job_id})).fetchone()
        return float(row[0])

    return await things.catalog.connections.read(work)


async def one_rebuild(
    things: Collection, around: Surroundings, threads: int
) -> tuple[float, float, float, JobRecord]:
    """Images a second of the whole job, of the making, and the CPU seconds that this process and its children used."""
    await things.forget()
    begun = time.perf_counter()
    job = await things.claimed()
    ledger = Ledger(things.store, around.resource.name, str(job.job_id))
    async with Here(around.resource, ledger, around.cache_dir, threads=threads) as here:
        await carry_out(around, job, here)
    took = time.perf_counter() - begun
    ended = await things.catalog.get_job(around.resource.name, job.job_id)
    assert ended.state == "done", ended.problem
    assert ended.result is not None
    made = ended.result["encoded"]
    return made / took, made / await making_s(things, ended), ended.result["cpu_s"], ended


async def run(dsn: str, root: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Take turns and give the medians."""
    await migrate(dsn)
    (root / "cached").mkdir()
    threads = os.cpu_count() or 1
    async with Collection(dsn, root, root / "cached") as things:
        for seed in range(arguments.images):
            await things.put(seed, data=picture(seed, (arguments.width, arguments.width * 3 // 4)))
        spec: dict[str, Any] = {"reindex": {"chunkImages": arguments.chunk, "batchSize": None}}
        if arguments.patches:
            spec["rerank"] = {"mode": "always"}
        around = things.around(**spec)
        tools = EncoderTools.open(around.resource, things.cache_dir, None, threads)
        batch = measured_batch(tools.encoder, tools.packing, around.resource.spec.encoder.max_batch_size)
        front = BatchEncoder(tools.encoder, tools.packing, batch)
        shape = tools.encoder.input
        pixels = np.random.default_rng(0).integers(0, 256, (128, shape.height, shape.width, 3), np.uint8)
        bare, whole, making, cpu = list[float](), list[float](), list[float](), list[float]()
        with HighWater() as memory:
            for _ in range(arguments.rounds):
                bare.append(await asyncio.to_thread(bare_rate, front, pixels, arguments.seconds))
                found = await one_rebuild(things, around, threads)
                for values, value in zip((whole, making, cpu), found[:3], strict=True):
                    values.append(value)
        encode_cpu = await asyncio.to_thread(lambda: front.encode(pixels).cpu_s / len(pixels))
        front.shut()
        tools.encoder.close()
    all_cpu = statistics.median(cpu) / arguments.images
    rates = {"bare": bare, "whole": whole, "making": making}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "images": arguments.images,
        "cores": threads,
        "batch": batch,
        "images_per_s": {name: round(value, 1) for name, value in medians.items()},
        "making_over_bare": round(medians["making"] / medians["bare"], 3),
        "whole_over_bare": round(medians["whole"] / medians["bare"], 3),
        "cpu_ms_per_image": {"all": round(all_cpu * 1000, 2), "encoding": round(encode_cpu * 1000, 2)},
        "cores_busy": {
            "bare": round(medians["bare"] * encode_cpu, 2),
            "making": round(medians["making"] * all_cpu, 2),
        },
        "memory_high_water_mib": round(memory.bytes / MIB),
        "each": {name: [round(value, 1) for value in values] for name, values in rates.items()},
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--patches", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vi-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        with running_postgres(root / "state") as server, fresh_database(server) as dsn:
            print(json.dumps(asyncio.run(run(dsn, root, arguments)), indent=2))


if __name__ == "__main__":
    main()
