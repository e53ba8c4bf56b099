"""The faults: what is broken, and by what a service shows that it is whole again."""

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.stack import Role, Stack
from benchmarks.traffic import Outcome

BALLAST = "ballast"


Strike = Callable[[Stack, random.Random], float]


@dataclass(frozen=True)
class Before:
    """The service as it was when the fault struck."""

    gateways: frozenset[str]
    processes: frozenset[int]


@dataclass(frozen=True)
class Fault:
    """`strike` breaks and returns when (monotonic seconds); `mend` is what an operator does (nothing in most).

    `whole(stack, before, outcomes)` says when all parts are back; it is given the requests that began after the fault
    or its mending.
    """

    name: str
    what: str
    strike: Strike
    whole: Callable[[Stack, Before, list[Outcome]], bool]
    mend: Callable[[Stack], None] | None = None
    hold_s: float = 0.0
    limit_s: float = 180.0


def before(stack: Stack) -> Before:
    """The service now."""
    everything = (p.pid for group in stack.processes().values() for p in group)
    return Before(frozenset(stack.gateways_up()), frozenset(everything))


def kill_one(role: Role) -> Strike:
    """SIGKILL one process of the role, drawn by chance."""

    def strike(stack: Stack, chance: random.Random) -> float:
        return _kill([chance.choice(stack.of(role))])

    return strike


def _kill(processes: list[psutil.Process]) -> float:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return time.monotonic()


def kill_decoder(stack: Stack, chance: random.Random) -> float:
    """SIGKILL the decoding process that works for a gateway, not its spare: the one with the most CPU time."""
    children = chance.choice(stack.of("gateway")).children()
    return _kill([max(children, key=lambda process: process.cpu_times().user)])


def kill_postmaster(stack: Stack, _: random.Random) -> float:
    """SIGKILL the database's first process; its backends notice by themselves."""
    postgres = stack.of("postgres")
    pids = {p.pid for p in postgres}
    return _kill([p for p in postgres if p.ppid() not in pids])


def kill_ray(stack: Stack, _: random.Random) -> float:
    """SIGKILL everything of Ray at once: head, controller, gateways with their decoders, shards, proxy."""
    processes = stack.processes()
    return _kill(
        [p for role, group in processes.items() if role not in ("postgres", "supervisor") for p in group]
    )


def kill_everything(stack: Stack, _: random.Random) -> float:
    """SIGKILL the supervisor and all it runs, as a power cut would, and start anew."""
    stack.kill_everything()
    struck = time.monotonic()
    stack.launch()
    return struck


def back(role: Role, at_least: int) -> Callable[[Stack, Before, list[Outcome]], bool]:
    """As many processes of the role as there should be, one of them new, and the service ready."""

    def whole(stack: Stack, was: Before, _: list[Outcome]) -> bool:
        now = {p.pid for p in stack.of(role)}
        return len(now) >= at_least and bool(now - was.processes) and stack.ready()

    return whole


def gateways_back(stack: Stack, was: Before, outcomes: list[Outcome]) -> bool:
    """The proxy sends requests to two gateways again, one of them new, and they answer."""
    up = stack.gateways_up()
    return len(up) >= 2 and bool(up - was.gateways) and _answered(outcomes)


def shards_back(_: Stack, __: Before, outcomes: list[Outcome]) -> bool:
    """Two replicas have answered searches since."""
    return len({o.replica for o in outcomes if o.replica}) >= 2 and _answered(outcomes)


def all_back(stack: Stack, was: Before, outcomes: list[Outcome]) -> bool:
    """Two new gateways behind the proxy, and two replicas of the shard that answer."""
    up = stack.gateways_up()
    return len(up - was.gateways) >= 2 and shards_back(stack, was, outcomes)


def _answered(outcomes: list[Outcome]) -> bool:
    return {o.kind for o in outcomes if o.ok} == {"search", "write"}


def healthy(stack: Stack, _: Before, outcomes: list[Outcome]) -> bool:
    """Searches and writes succeed, and the service calls itself ready."""
    return _answered(outcomes) and stack.ready()


def fill(folder: Callable[[Stack], Path]) -> Strike:
    """Fill the file system under a folder to the last byte with one file."""

    def strike(stack: Stack, _: random.Random) -> float:
        with (folder(stack) / BALLAST).open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(b"\0" * 65_536):
                pass
        return time.monotonic()

    return strike


def empty(folder: Callable[[Stack], Path]) -> Callable[[Stack], None]:
    """Make room again."""
    return lambda stack: (folder(stack) / BALLAST).unlink()


def objects_folder(stack: Stack) -> Path:
    """Where the stack keeps its objects."""
    return Path(stack.spec["storage"]["folder"])


def state_folder(stack: Stack) -> Path:
    """Where the stack keeps its database."""
    return stack.folder


def nothing(_: Stack, __: random.Random) -> float:
    """Break nothing."""
    return time.monotonic()


def kills() -> list[Fault]:
    """Faults by SIGKILL, after a control in which nothing breaks: what fails there, the machine is too slow for."""
    return [
        Fault("none", "the control: nothing is broken", nothing, shards_back),
        Fault(
            "gateway", "one of two gateways, with the encoder inside it", kill_one("gateway"), gateways_back
        ),
        Fault("decode worker", "one decoding process at work", kill_decoder, back("decode worker", 4)),
        Fault("shard", "one of two replicas of the shard", kill_one("shard"), shards_back),
        Fault("proxy", "HAProxy", kill_one("proxy"), back("proxy", 1)),
        Fault("postgres", "the postmaster", kill_postmaster, healthy),
        Fault("ray", "every process of Ray, the head included", kill_ray, all_back, limit_s=400),
        Fault(
            "everything", "the supervisor and all, then a new `up`", kill_everything, all_back, limit_s=400
        ),
    ]


def full_disks() -> list[Fault]:
    """Faults by a file system without room; a stack on small file systems of its own is needed."""
    return [
        Fault(
            "full object store",
            "no byte left under the objects, for ten seconds",
            fill(objects_folder),
            healthy,
            mend=empty(objects_folder),
            hold_s=10,
        ),
        Fault(
            "full database",
            "no byte left under Postgres, for ten seconds",
            fill(state_folder),
            healthy,
            mend=empty(state_folder),
            hold_s=10,
        ),
    ]


def can_mount() -> bool:
    """Whether small file systems can be mounted here."""
    return os.geteuid() == 0


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own, in memory, at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes}m,mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)  # noqa: S607
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607
