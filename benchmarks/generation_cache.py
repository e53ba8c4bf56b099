"""What a generation's way costs: published to a folder, fetched into a node's cache, verified there at every opening.

Beside it, in the same run and on the same file, what the system's own tools take: `cp` with a flush, and `sha256sum`.
On a busy machine the CPU seconds say more than the others.

    python -m benchmarks.generation_cache --megabytes 1024
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from visualindex.generations import FORMAT, Manifest, NodeCache, publish
from visualindex.objectstore import LocalObjectStore

_MIB = 1024**2
_PAUSE_S = 0.001
"""Between two looks at the event loop."""


class Taken(NamedTuple):
    """What a piece of work took, in seconds."""

    wall: float
    cpu: float
    loop_held: float
    """The longest that the event loop was held meanwhile."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the file")
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often everything is done; medians are printed"
    )
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(_measure(Path(folder), options.megabytes, options.rounds))


async def _measure(folder: Path, megabytes: int, rounds: int) -> None:
    built = folder / "built"
    built.mkdir()
    with (built / "vectors.f16").open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(_MIB))
    taken = dict[str, list[Taken]]()
    for number in range(rounds):
        for name, seconds in (await _round(folder / str(number), built)).items():
            taken.setdefault(name, []).append(seconds)
        shutil.rmtree(folder / str(number))
    print(f"{megabytes} MiB, median of {rounds} rounds")
    print(f"{'':20}{'seconds':>9}{'CPU s':>9}{'MiB/s':>9}{'MiB/CPU s':>11}{'loop held, ms':>15}")
    for name, values in taken.items():
        seconds, cpu, held = (statistics.median(column) for column in zip(*values, strict=True))
        speeds = f"{megabytes / seconds:9.0f}{megabytes / max(cpu, 0.01):11.0f}"
        print(f"{name:20}{seconds:9.3f}{cpu:9.2f}{speeds}{held * 1000:15.1f}")


async def _round(folder: Path, built: Path) -> dict[str, Taken]:
    await asyncio.to_thread(folder.mkdir)
    file, copy = built / "vectors.f16", folder / "copy"
    taken = {
        "cp, flushed": await _timed(
            lambda: asyncio.to_thread(_run, "sh", "-c", f"cp {file} {copy} && sync {copy}")
        ),
        "sha256sum": await _timed(lambda: asyncio.to_thread(_run, "sha256sum", str(file))),
    }
    store = LocalObjectStore(folder / "store")
    cache = NodeCache(folder / "cache", 1 << 40)
    manifest = _manifest()

    async def publication() -> None:
        nonlocal manifest
        manifest = await publish(store, "bench", _manifest(), [(range(1), 1, built)])

    async def opening() -> None:
        (await cache.fetch(store, "bench", manifest, 0)).release()

    taken["publish"] = await _timed(publication)
    taken["publish again"] = await _timed(publication)
    taken["fetch"] = await _timed(opening)
    taken["open what is cached"] = await _timed(opening)
    await store.close()
    return taken


async def _timed(work: Callable[[], Awaitable[object]]) -> Taken:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_PAUSE_S)
            longest = max(longest, time.perf_counter() - before - _PAUSE_S)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    started, cpu = time.perf_counter(), _cpu()
    await work()
    taken = Taken(time.perf_counter() - started, _cpu() - cpu, longest)
    watching.cancel()
    return taken


def _cpu() -> float:
    """CPU seconds of this process and of the tools it started."""
    return sum(os.times()[:4])


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _manifest() -> Manifest:
    return Manifest(
        format=FORMAT,
        index="bench",
        fingerprint="",
        dimension=1,
        metric="cosine",
        watermark="",
        shards=(),
        parameters={},
        recall={},
        release="",
        created_at="",
    )


if __name__ == "__main__":
    main()
