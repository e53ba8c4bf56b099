"""Where the time of a vector search over HTTP goes: rates, CPU by process, and the gateway's hottest functions.

    python -m benchmarks.engine --profile --data clustered

CPU milliseconds are user and system time of every process of the
service over the searches answered; the hottest functions come from py-spy's samples of one gateway.
"""

import itertools
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engine import our_service
from benchmarks.engine.over_http import Answered, load
from benchmarks.engine.vectors import Dataset
from benchmarks.stack import Role, Stack, cpu_seconds

ROLES: tuple[Role, ...] = ("proxy", "gateway", "shard", "postgres", "ray", "supervisor")
CONNECTIONS = (1, 16)
_HOTTEST = 25
_PORT = 8440
_EMPTY = "/healthz"
_WAITING = ("Thread.run (", "Worker.main_loop (", "_worker (", "select (", "wait (")
"""Where threads stand that do nothing: py-spy cannot always tell."""


@dataclass(frozen=True)
class Profile:
    """A load and the CPU milliseconds per search of every role, the client's under `client`."""

    name: str
    answered: Answered
    cpu_ms: dict[str, float]
    load_average: float


@dataclass
class Spied:
    """Samples by function: those it was running in itself, and those it was anywhere on the stack of."""

    own: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)
    samples: int = 0


def profiled(stack: Stack, name: str, bodies: Sequence[bytes], connections: int, seconds: float) -> Profile:
    """Put the load on the service and see where the CPU time went; without bodies, the floor: an empty answer."""
    path = our_service.SEARCH if bodies else _EMPTY
    named = f"{name}, {connections} at once"
    return observed(stack, named, lambda: load(stack.url, path, bodies or [b""], connections, seconds))


def observed(stack: Stack, name: str, run: Callable[[], Answered]) -> Profile:
    """What `run` measures and the CPU time of every role meanwhile."""
    processes = stack.processes()
    before = cpu_seconds(processes)
    answered = run()
    after = cpu_seconds(processes)
    used: dict[str, float] = {
        role: sum(after.get(p.pid, before[p.pid]) - before[p.pid] for p in group if p.pid in before)
        for role, group in processes.items()
    }
    used["client"] = answered.client_cpu_s
    each = {role: seconds * 1000 / max(1, answered.requests) for role, seconds in used.items()}
    return Profile(name, answered, each, os.getloadavg()[0])


@contextmanager
def spied(pid: int, seconds: float, raw: Path) -> Iterator[None]:
    """py-spy on the thread with the interpreter lock while the block runs; its collapsed stacks go to `raw`.

    Of all threads, sampled by the clock, system calls would weigh most on a busy machine: they are where others preempt.
    """
    spy = [str(Path(sys.executable).with_name("py-spy")), "record", "--nonblocking", "--gil", "--rate", "200"]
    options = ["--format", "raw", "--duration", str(round(seconds)), "--output", str(raw), "--pid", str(pid)]
    with subprocess.Popen([*spy, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield
        process.wait(60)


def read_samples(raw: Path) -> Spied:
    """The counts of a file of collapsed stacks: `caller;callee 12` on each line."""
    found = Spied()
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_without_line(frame) for frame in stack.split(";")]
        if frames[-1].startswith(_WAITING):
            continue
        found.own[frames[-1]] += int(count)
        found.total.update(dict.fromkeys(frames, int(count)))
        found.samples += int(count)
    return found


def _without_line(frame: str) -> str:
    """`function (file)` from `function (path/file.py:12)`."""
    name, _, place = frame.partition(" (")
    return f"{name} ({'/'.join(place.rstrip(')').split(':')[0].split('/')[-2:])})"


def cpu_table(profiles: Sequence[Profile]) -> str:
    """Rates and CPU milliseconds per search as Markdown."""
    head = ["search", "p50 ms", "p99 ms", "searches/s", "errors", *(f"{r} CPU ms" for r in ROLES)]
    head += ["service CPU ms", "client CPU ms", "load"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(_line(profile) for profile in profiles)])


def _line(profile: Profile) -> str:
    a, cpu = profile.answered, profile.cpu_ms
    service = sum(ms for role, ms in cpu.items() if role != "client")
    cells = [profile.name, f"{a.p50_ms:.2f}", f"{a.p99_ms:.1f}", f"{a.per_second:.0f}", str(a.errors)]
    cells += [f"{cpu.get(role, 0.0):.2f}" for role in ROLES]
    cells += [f"{service:.2f}", f"{cpu['client']:.2f}", f"{profile.load_average:.1f}"]
    return "| " + " | ".join(cells) + " |"


def samples_table(found: Spied) -> str:
    """The hottest functions, by their own samples and by those below them, as Markdown."""
    lines = ["| own % | function | | with callees % | function |", "|---|---|---|---|---|"]
    own, total = found.own.most_common(_HOTTEST), found.total.most_common(2 * _HOTTEST)
    own += [("", 0)] * (len(total) - len(own))
    for (a, mine), (b, below) in zip(own, total, strict=True):
        left = f"{100 * mine / found.samples:.1f}" if a else ""
        lines.append(f"| {left} | {a} | | {100 * below / found.samples:.1f} | {b} |")
    return "\n".join(lines)


def run(data: Dataset, seconds: float) -> None:
    """Start a service over the data, put every load on it and print the tables."""
    print(f"{len(data.vectors):,} x {data.vectors.shape[1]}, {os.cpu_count()} CPUs\n")
    with our_service.service(_PORT, {"encoder": {"dimension": data.vectors.shape[1]}}) as stack:
        our_service.fill(stack, data)
        print(cpu_table(_loads(stack, data, seconds)), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            _hottest(stack, our_service.bodies(data.queries), seconds, Path(folder))


def _loads(stack: Stack, data: Dataset, seconds: float) -> list[Profile]:
    plain, filtered = our_service.bodies(data.queries), our_service.bodies(data.queries, data.asked)
    profiled(stack, "warm-up", plain, 4, 3)
    kinds: list[tuple[str, Sequence[bytes]]] = [
        ("nothing (GET /healthz)", []),
        ("vector", plain),
        ("vector, 1 % filter", filtered),
    ]
    return [
        profiled(stack, name, bodies, connections, seconds)
        for name, bodies in kinds
        for connections in CONNECTIONS
    ]


def _hottest(stack: Stack, bodies: Sequence[bytes], seconds: float, folder: Path) -> None:
    roles: tuple[Role, ...] = ("gateway", "shard")
    for role, connections in itertools.product(roles, CONNECTIONS):
        raw = folder / f"{role}-{connections}"
        with spied(stack.of(role)[0].pid, seconds, raw):
            load(stack.url, our_service.SEARCH, bodies, connections, seconds + 1)
        print(f"\n{role}, {connections} at once\n\n{samples_table(read_samples(raw))}", flush=True)
