"""One engine's row of the table. The same steps in the same order for all, in the engine's own environment."""

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.engine.over_http import load
from benchmarks.engine.peer import THREADS, HttpPeer, Peer, Searched
from benchmarks.engine.vectors import TOP, Dataset, Numbers, Vectors, recall

TARGET = 0.95
CONNECTIONS = 16
_TUNED_ON = 200
_VISIBLE_S = 5.0
_MB = 1_000_000


@dataclass
class Rates:
    """Searches of one kind at the least effort that reached the recall."""

    effort: int
    recall: float
    p50_ms: float
    p99_ms: float
    per_second: float
    harness_cores: float
    """CPU seconds a second, at `per_second`, of the process or generator that asked: an in-process engine's own too."""


@dataclass
class Row:
    """What one engine did. `client_cpu` is the share of one core that a server's load generator used."""

    name: str
    version: str
    note: str
    how: str
    build_s: float
    memory_mb: float
    disk_mb: float
    plain: Rates
    filtered: Rates | None
    insert_ms: tuple[float, float]
    visible_ms: tuple[float, float]
    own_ms: tuple[float, float] | None
    """From the acknowledgement to an answer that had to hold the write, where an engine offers such a search."""
    delete_ms: float
    resurrected: int
    client_cpu: float | None
    load_average: float


def measured(peer: Peer, data: Dataset, folder: Path, seconds: float, writes: int) -> Row:
    """Build, tune, search, filter, insert, delete."""
    before = memory_mb(peer.processes())
    began = time.perf_counter()
    peer.build(data)
    build_s = time.perf_counter() - began
    memory = memory_mb(peer.processes()) - before
    plain = _rates(peer, data, None, data.truth, seconds)
    filtered = None
    if peer.search(data.queries[0], int(data.asked[0]), TOP) is not None:
        filtered = _rates(peer, data, data.asked, data.filtered_truth, seconds)
        peer.tune(plain.effort)
    spare = cast(Any, peer).spare(2 * writes) if hasattr(peer, "spare") else data.spare
    rows = len(data.vectors)
    inserted, visible = _inserts(peer, rows, spare[:writes])
    own = _own(peer, rows + writes, spare[writes : 2 * writes]) if hasattr(peer, "search_own") else None
    delete_ms, resurrected = _deletes(peer, data, writes)
    how = f"HTTP, {CONNECTIONS} connections" if hasattr(peer, "request") else _in_process(peer)
    return Row(
        peer.name,
        peer.version,
        peer.note,
        how,
        build_s,
        memory,
        disk_mb(folder),
        plain,
        filtered,
        inserted,
        visible,
        own,
        delete_ms,
        resurrected,
        None if how.startswith("in process") else plain.harness_cores,
        os.getloadavg()[0],
    )


def _in_process(peer: Peer) -> str:
    threads = getattr(peer, "connections", None)
    return f"{threads} connections" if threads else f"in process, {THREADS} threads"


def _rates(peer: Peer, data: Dataset, labels: Numbers | None, truth: Numbers, seconds: float) -> Rates:
    if hasattr(peer, "request"):
        return _over_http(cast(HttpPeer, peer), data, labels, truth, seconds)
    return searched(peer, data, labels, truth, seconds, getattr(peer, "connections", THREADS))


def searched(
    peer: Searched,
    data: Dataset,
    labels: Numbers | None,
    truth: Numbers,
    seconds: float,
    threads: int = THREADS,
) -> Rates:
    """Searches at the least effort that finds enough, timed one at a time and on several threads side by side."""
    effort = _least_effort(peer, data, labels, truth)
    found = recall(_found(peer, data, labels, len(data.queries)), truth)
    p50, p99 = np.percentile(_alone(peer, data, labels, seconds), (50, 99))
    used, began = time.process_time(), time.perf_counter()
    many = _side_by_side(peer, data, labels, seconds, threads)
    cores = (time.process_time() - used) / (time.perf_counter() - began)
    return Rates(effort, found, float(p50), float(p99), many, cores)


def _over_http(
    peer: HttpPeer, data: Dataset, labels: Numbers | None, truth: Numbers, seconds: float
) -> Rates:
    effort = _least_effort(peer, data, labels, truth)
    found = recall(_found(peer, data, labels, len(data.queries)), truth)
    path, bodies = peer.request(data.queries, labels)
    alone = load(peer.url, path, bodies, 1, seconds)
    many = load(peer.url, path, bodies, CONNECTIONS, seconds)
    if alone.errors or many.errors:
        raise RuntimeError(f"{peer.name} refused {alone.errors + many.errors} searches under load")
    client = many.client_cpu_s / many.seconds
    return Rates(effort, found, alone.p50_ms, alone.p99_ms, many.per_second, client)


def _least_effort(peer: Searched, data: Dataset, labels: Numbers | None, truth: Numbers) -> int:
    """The engine's own ladder, climbed until the recall is met on the first queries; its top when it never is."""
    for effort in peer.efforts:
        peer.tune(effort)
        if recall(_found(peer, data, labels, _TUNED_ON), truth[:_TUNED_ON]) >= TARGET:
            break
    return effort


def _found(peer: Searched, data: Dataset, labels: Numbers | None, count: int) -> Numbers:
    found = np.full((min(count, len(data.queries)), TOP), -1, np.int64)
    for at in range(len(found)):
        hits = _search(peer, data, labels, at)
        found[at, : len(hits)] = hits
    return found


def _search(peer: Searched, data: Dataset, labels: Numbers | None, at: int) -> Numbers:
    return _hits(peer, data.queries[at], None if labels is None else int(labels[at]))


def _hits(peer: Searched, query: Vectors, label: int | None = None) -> Numbers:
    hits = peer.search(query, label, TOP)
    assert hits is not None
    return hits


def _alone(peer: Searched, data: Dataset, labels: Numbers | None, seconds: float) -> list[float]:
    """Milliseconds of searches, one after the other."""
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        _search(peer, data, labels, len(taken) % len(data.queries))
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _side_by_side(
    peer: Searched, data: Dataset, labels: Numbers | None, seconds: float, threads: int
) -> float:
    """Searches a second of several threads, each asking one after the other."""
    counts = [0] * threads
    until = time.perf_counter() + seconds

    def ask(thread: int) -> None:
        while time.perf_counter() < until:
            _search(peer, data, labels, (thread * 61 + counts[thread]) % len(data.queries))
            counts[thread] += 1

    began = time.perf_counter()
    asking = [threading.Thread(target=ask, args=(n,)) for n in range(threads)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def _inserts(peer: Peer, rows: int, spare: Vectors) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median and 99th percentile, in ms, of an insert until acknowledged, and from there until a search finds it.

    A row that no search finds within five seconds took infinitely long: some graphs lose rows that are hard to reach.
    """
    acknowledged, visible = [], []
    for row, vector in enumerate(spare, rows):
        acknowledged.append(_ms(partial(peer.insert, row, vector, 0)))
        visible.append(_until_found_ms(peer, row, vector))
    return _percentiles(acknowledged), _percentiles(visible)


def _own(peer: Peer, rows: int, spare: Vectors) -> tuple[float, float]:
    """Median and 99th percentile, in ms, of searches that wait for the caller's last write. Raises when one misses it."""
    taken = []
    for row, vector in enumerate(spare, rows):
        peer.insert(row, vector, 0)
        began = time.perf_counter()
        found = cast(Any, peer).search_own(vector, TOP)
        taken.append((time.perf_counter() - began) * 1000)
        if row not in found:
            raise RuntimeError(f"{peer.name} answered a search for its caller's own write without it")
    return _percentiles(taken)


def _until_found_ms(peer: Peer, row: int, vector: Vectors) -> float:
    """Milliseconds until a search finds the row; infinite when none does in time."""
    began = time.perf_counter()
    while time.perf_counter() < began + _VISIBLE_S:
        if row in _hits(peer, vector):
            return (time.perf_counter() - began) * 1000
    return math.inf


def _deletes(peer: Peer, data: Dataset, writes: int) -> tuple[float, int]:
    """Median ms of a delete until acknowledged, and how many of the deleted rows are still found at the end."""
    taken = [_ms(partial(peer.delete, row)) for row in range(writes)]
    until = time.perf_counter() + 2.0  # servers apply deletes when they can
    left = writes
    while left and time.perf_counter() < until:
        left = sum(row in _hits(peer, data.vectors[row]) for row in range(writes))
    return float(np.median(taken)), left


def _ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _percentiles(taken: list[float]) -> tuple[float, float]:
    p50, p99 = np.percentile(taken, (50, 99), method="nearest")  # "linear" makes nothing of infinities
    return float(p50), float(p99)


def memory_mb(processes: Sequence[int]) -> float:
    """Resident megabytes of processes; pages that several share count in each of them by their share."""
    return sum(_pss_kb(pid) for pid in processes) / 1000


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def disk_mb(folder: Path) -> float:
    """Megabytes that the files below a folder occupy."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / _MB
