"""The service against the same work without it: latency, throughput, CPU by hop, ingest and freshness, in one run.

    python -m benchmarks.service [--rows 15000] [--seconds 10] [--writes 200] [--profile gateway.svg] [--json FILE]

Starts a service of its own with the default spec on 127.0.0.1 in a temporary folder. The query is a 500 KB JPEG of
1600x1200; every request's file carries another comment, because a gateway remembers the vectors of files it has seen (one
row shows those repeats). The index holds synthetic vectors, written through the catalog, few enough that the shard
searches exactly, as the bare pipeline does. That one is measured before and after the service, searches and writes in two
rounds, and the better figures of both sides are compared.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from benchmarks import freshness, load, thumbnails
from benchmarks.bare import Bare, Rate
from benchmarks.photographs import distinct, photograph
from benchmarks.stack import Role, Stack, cpu_seconds, end_on_signals
from visualindex.catalog import Catalog, ImageWrite
from visualindex.spec import Spec

PORT = 8420
ROLES: tuple[Role, ...] = ("proxy", "gateway", "decode worker", "shard", "postgres", "ray", "supervisor")
SEARCH, WRITE, BATCH = "/api/search", "/api/images", "/api/images/batch"
_BATCH = 16
_WRITE_ONE, _WRITE_BATCH = "write one, 8 at once", f"write {_BATCH}, 2 at once"
_ROUNDS = 2
_ROWS_AT_ONCE = 1_000
_IDLE_S = 5.0
_STEPS = 50


@dataclass(frozen=True)
class Load:
    """One row: what was sent, what was measured, and CPU milliseconds per request by role (`client` included)."""

    name: str
    measured: load.Measured
    per_request: int
    cpu_ms: dict[str, float]


@dataclass
class Report:
    """Everything a run measured."""

    bare: dict[str, list[Rate]] = field(default_factory=dict)
    loads: list[Load] = field(default_factory=list)
    idle_cpu: dict[str, float] = field(default_factory=dict)
    steps_ms: dict[str, float] = field(default_factory=dict)
    fresh: freshness.Freshness | None = None


def vectors(rows: int, dimension: int) -> npt.NDArray[np.float32]:
    """Random directions: float32[rows, dimension], L2-normalised, equal in every run."""
    drawn = np.random.default_rng(7).standard_normal((rows, dimension), dtype=np.float32)
    unit: npt.NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def measure_bare(bare: Bare, jpeg: bytes, seconds: float, report: Report) -> None:
    """Add the bare rates of a search and of decoding and encoding alone, which is what a write computes."""
    for name, work in (("search", bare.search), ("embed", bare.embed)):
        report.bare.setdefault(name, []).extend(bare.rates(work, jpeg, seconds))


async def fill(stack: Stack, rows: npt.NDArray[np.float32]) -> None:
    """Write the vectors as images of the index, in the catalog's own way, without pictures."""
    fingerprint = (await asyncio.to_thread(_about, stack))["fingerprint"]
    catalog = await Catalog.open(stack.dsn, application_name="benchmark")
    try:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            chunk = rows[start : start + _ROWS_AT_ONCE]
            writes = [_row(start + n, vector, fingerprint) for n, vector in enumerate(chunk)]
            await catalog.put_images(stack.name, writes)
    finally:
        await catalog.close()
    await asyncio.to_thread(stack.until, lambda: _holds(stack, len(rows)), "both replicas hold the rows", 120)


def _row(number: int, vector: npt.NDArray[np.float32], fingerprint: str) -> ImageWrite:
    return ImageWrite(
        image_id=uuid.UUID(int=number + 1),
        content_digest=number.to_bytes(32, "big"),
        media_type="image/jpeg",
        width=1600,
        height=1200,
        size_bytes=1,
        embeddings={(0, fingerprint): vector},
        category=f"c{number % 20}",
        metadata={"price": number % 1000},
    )


def _about(stack: Stack) -> dict[str, Any]:
    about: dict[str, Any] = httpx.get(f"{stack.url}/api/indexes/{stack.name}", trust_env=False).json()
    return about


def _holds(stack: Stack, rows: int) -> bool:
    return len([replica for replica in _about(stack)["replicas"] if replica["rows"] >= rows]) >= 2


def put_load(
    stack: Stack, name: str, plan: load.Plan, *, per_request: int = 1, to_the_end: bool = False
) -> Load:
    """Put a load on the service and see where the CPU time went; `per_request` pictures are in each request."""
    return observed(stack, name, lambda: load.run(stack.url, plan, to_the_end=to_the_end), per_request)


def observed(stack: Stack, name: str, run: Callable[[], load.Measured], per_request: int = 1) -> Load:
    """What `run` measures, and the CPU time of every role meanwhile."""
    processes = stack.processes()
    before = cpu_seconds(processes)
    measured = run()
    used = _by_role(stack, processes, before)
    used["client"] = measured.client_cpu_s
    served = max(1, measured.requests) * per_request
    return Load(name, measured, per_request, {role: s * 1000 / served for role, s in used.items()})


def _by_role(stack: Stack, processes: dict[Role, list[Any]], before: dict[int, float]) -> dict[str, float]:
    """CPU seconds since `before` by role; a process that came meanwhile counts whole, one that went is not counted."""
    now = stack.processes()
    after = cpu_seconds(now)
    return {
        role: sum(after[p.pid] - before.get(p.pid, 0.0) for p in group if p.pid in after)
        for role, group in now.items()
    }


def idle_cpu(stack: Stack) -> dict[str, float]:
    """CPU milliseconds a second by role while nothing is asked."""
    processes = stack.processes()
    before, started = cpu_seconds(processes), time.monotonic()
    time.sleep(_IDLE_S)
    used = _by_role(stack, processes, before)
    elapsed = time.monotonic() - started
    return {role: seconds * 1000 / elapsed for role, seconds in used.items()}


def steps(stack: Stack, jpeg: bytes) -> dict[str, float]:
    """Median milliseconds of a lone search by step, as `explain` tells them, and of what is outside the gateway's count."""
    found: dict[str, list[float]] = defaultdict(list)
    with httpx.Client(base_url=stack.url, timeout=30, trust_env=False) as client:
        for number in range(_STEPS):
            body = distinct(jpeg, 900_000_000 + number)
            files, data = {"image": ("photo.jpg", body, "image/jpeg")}, {"limit": "10", "explain": "true"}
            began = time.perf_counter()
            answer = client.post(SEARCH, files=files, data=data).raise_for_status().json()
            whole = (time.perf_counter() - began) * 1000
            for step, taken in answer["explain"]["timings_ms"].items():
                found[step].append(taken)
            found["in the gateway's search"].append(answer["took_ms"])
            found["ingress, body, answer, client"].append(whole - answer["took_ms"])
            found["the whole request"].append(whole)
    return {step: statistics.median(taken) for step, taken in found.items()}


def measure_service(stack: Stack, jpeg: bytes, seconds: float, report: Report) -> None:
    """All loads, one after the other."""
    body = load.upload([jpeg], {"limit": "10"})
    put_load(stack, "warm-up", load.Plan(SEARCH, body, 8, max(2.0, seconds / 3), first=1))
    report.idle_cpu = idle_cpu(stack)
    for number, connections in enumerate((1, 4, 16) * _ROUNDS, 1):
        plan = load.Plan(SEARCH, body, connections, seconds, first=number * 5_000_000)
        report.loads.append(put_load(stack, f"search, {connections} at once", plan))
    report.steps_ms = steps(stack, jpeg)
    plan = load.Plan(SEARCH, body, 16, seconds, fresh=False)
    report.loads.append(put_load(stack, "search, 16 at once, a repeated picture", plan))
    write, batch = load.upload([jpeg], {}), load.upload([jpeg] * _BATCH, {}, "images")
    for start in range(50_000_000, 50_000_000 + _ROUNDS * 10_000_000, 10_000_000):
        plan = load.Plan(WRITE, write, 8, seconds, first=start)
        report.loads.append(put_load(stack, _WRITE_ONE, plan, to_the_end=True))
        plan = load.Plan(BATCH, batch, 2, seconds, first=start + 5_000_000)
        report.loads.append(put_load(stack, _WRITE_BATCH, plan, per_request=_BATCH, to_the_end=True))
    wanted = thumbnails.paths(stack.url)
    for name in ("thumbnail, first request, 4 at once", "thumbnail, again, 4 at once"):
        report.loads.append(observed(stack, name, lambda: thumbnails.run(stack.url, wanted)))


def profile(stack: Stack, jpeg: bytes, out: Path) -> None:
    """Ten seconds of py-spy on a gateway under four searches at once, as a flame graph."""
    spy = [
        str(Path(sys.executable).with_name("py-spy")),
        "record",
        "--nonblocking",
        "-d",
        "10",
        "-o",
        str(out),
    ]
    with subprocess.Popen(
        [*spy, "-p", str(stack.of("gateway")[0].pid)], stdout=subprocess.DEVNULL
    ) as process:
        body = load.upload([jpeg], {"limit": "10"})
        load.run(stack.url, load.Plan(SEARCH, body, 4, 11, first=70_000_000))
        process.wait(60)


@contextmanager
def service(port: int) -> Iterator[Stack]:
    """A service with all defaults, ended and cleared away afterwards."""
    with tempfile.TemporaryDirectory(prefix="vi-bench-") as folder:
        stack = Stack(Path(folder) / "state", port)
        try:
            print(f"service started in {stack.start():.1f} s", file=sys.stderr)
            yield stack
        finally:
            stack.stop()
            shutil.rmtree(stack.state.sockets, ignore_errors=True)


def tables(report: Report) -> str:
    """The report as Markdown."""
    return "\n\n".join([_main_table(report), _cpu_table(report), _steps_table(report), _ratios(report)])


def _main_table(report: Report) -> str:
    lines = ["| what | p50 ms | p99 ms | per second | errors |", "|---|---|---|---|---|"]
    for name, rates in report.bare.items():
        lines += [
            f"| bare {name}, {r.arrangement} | {r.p50_ms:.1f} | {r.p99_ms:.1f} | {r.per_second:.1f} | 0 |"
            for r in rates
        ]
    for row in report.loads:
        m = row.measured
        rate = m.per_second * row.per_request
        lines.append(f"| {row.name} | {m.p50_ms:.1f} | {m.p99_ms:.1f} | {rate:.1f} | {m.errors} |")
    fresh = report.fresh
    if fresh is not None:
        count = len(fresh.all_ms)
        p50, p99 = fresh.percentile(50), fresh.percentile(99)
        lines.append(
            f"| acknowledged write to visible at every replica ({count}) | {p50:.0f} | {p99:.0f} | | 0 |"
        )
        for kind, taken in fresh.taken_ms.items():
            a, b = np.percentile(taken, (50, 99))
            lines.append(f"| of these: {kind} ({len(taken)}) | {a:.0f} | {b:.0f} | | |")
    return "\n".join(lines)


def _cpu_table(report: Report) -> str:
    roles = [role for role in (*ROLES, "client") if any(role in row.cpu_ms for row in report.loads)]
    lines = [
        "| CPU ms per picture | " + " | ".join([*roles, "service"]) + " |",
        "|---" * (len(roles) + 2) + "|",
    ]
    lines += [_cpu_line(row.name, row.cpu_ms, roles) for row in report.loads]
    lines.append(_cpu_line("idle, ms per second", report.idle_cpu, roles))
    bare = min(rate.cpu_ms for rate in report.bare["search"])
    lines.append("| bare search" + " |" * len(roles) + f" | {bare:.1f} |")
    return "\n".join(lines)


def _cpu_line(name: str, used: dict[str, float], roles: list[str]) -> str:
    total = sum(ms for role, ms in used.items() if role != "client")
    return f"| {name} | " + " | ".join(f"{used.get(role, 0.0):.1f}" for role in roles) + f" | {total:.1f} |"


def _steps_table(report: Report) -> str:
    lines = ["| a lone search, by step | median ms |", "|---|---|"]
    return "\n".join([*lines, *(f"| {step} | {ms:.2f} |" for step, ms in report.steps_ms.items())])


def _ratios(report: Report) -> str:
    """The better of each kind's runs, on both sides: the machine's own speed changes between them."""
    best = {name: max(r.per_second for r in rates) for name, rates in report.bare.items()}
    alone = min(r.p50_ms for r in report.bare["search"])
    lone = min(row.measured.p50_ms for row in report.loads if row.name == "search, 1 at once")
    ratios = [
        ("p50 of a lone search", lone / alone, "at most 1.5"),
        (
            "searches a second, 16 at once",
            _best_rate(report, "search, 16 at once") / best["search"],
            "at least 0.75",
        ),
        (
            "writes a second, one by one, of bare decode + encode",
            _best_rate(report, _WRITE_ONE) / best["embed"],
            "at least 0.75",
        ),
        (
            "writes a second, in batches, of bare decode + encode",
            _best_rate(report, _WRITE_BATCH) / best["embed"],
            "at least 0.75",
        ),
    ]
    lines = ["| of bare | ratio | target |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {ratio:.2f} | {target} |" for name, ratio, target in ratios)])


def _best_rate(report: Report, name: str) -> float:
    return max(row.measured.per_second * row.per_request for row in report.loads if row.name == name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=15_000, help="synthetic vectors in the index")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each load")
    parser.add_argument("--writes", type=int, default=200, help="writes whose freshness is measured")
    parser.add_argument("--port", type=int, default=PORT, help="port of the service")
    parser.add_argument("--profile", type=Path, help="file for a flame graph of a gateway")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    return parser.parse_args()


def main() -> None:
    """Measure and print the tables."""
    end_on_signals()
    arguments = _arguments()
    spec, jpeg, report = Spec(), photograph(), Report()
    rows = vectors(arguments.rows, spec.encoder.dimension)
    with tempfile.TemporaryDirectory() as cache:
        bare = Bare(spec, rows, Path(cache))
        measure_bare(bare, jpeg, arguments.seconds / 2, report)
        with service(arguments.port) as stack:
            asyncio.run(fill(stack, rows))
            measure_service(stack, jpeg, arguments.seconds, report)
            report.fresh = asyncio.run(freshness.measure(stack.url, arguments.writes))
            if arguments.profile:
                profile(stack, jpeg, arguments.profile)
        measure_bare(bare, jpeg, arguments.seconds / 2, report)
    print(
        f"{len(jpeg) / 1000:.0f} KB JPEG of 1600x1200, {arguments.rows} vectors, {os.cpu_count()} CPUs, "
        f"load by {load.generator()}, {arguments.seconds:.0f} s each\n"
    )
    print(tables(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=2))


if __name__ == "__main__":
    main()
