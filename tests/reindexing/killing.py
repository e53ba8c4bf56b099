"""A rebuild in processes of its own, which are killed at any moment and started again, as a cluster would."""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
import yaml

from .collection import Collection, resource_of

_ENCODING = re.compile(r"encoding chunk (\d+) of plan (\S+)")
_LOOK_S = 0.02
GIVEN_BACK = 4
"""Exit code of a driver that gave its job back."""


@dataclass
class Told:
    """What the processes of one rebuild told: chunks whose encoding began, how often, and the end."""

    begun: dict[tuple[str, int], int] = field(default_factory=dict)
    kills: int = 0
    given_back: int = 0
    """Processes that were given notice and ended by themselves."""
    ended: dict[str, Any] | None = None

    def read(self, log: str) -> None:
        for chunk, plan in _ENCODING.findall(log):
            key = plan, int(chunk)
            self.begun[key] = self.begun.get(key, 0) + 1

    @property
    def repeated(self) -> int:
        """Encodings beyond one for each chunk."""
        return sum(times - 1 for times in self.begun.values())


Moment = Callable[[psutil.Process], Awaitable[None]]
"""Waits for the moment of a kill, and kills."""


class Killing:
    """Starts the command on a collection until its job is done."""

    def __init__(
        self, things: Collection, ray: Mapping[str, str] | None = None, kind: str = "reindex", **spec: Any
    ) -> None:
        """With the variables that lead to a Ray cluster its processes do the work, else the command itself."""
        self._things = things
        self._ray = ray
        self._kind = kind
        document = resource_of(**spec).model_dump(mode="json", by_alias=True, exclude_defaults=True)
        self._spec = things.root / "spec.yaml"
        self._spec.write_text(yaml.safe_dump(document))

    async def run(self, *moments: Moment) -> Told:
        """One rebuild; each of `moments` kills once, where the job has not ended before."""
        told, log = Told(), self._things.root / "log"
        waiting = list(moments)
        while told.ended is None:
            with log.open("wb") as stderr:
                process = await self._start(stderr)
                try:
                    while waiting and process.returncode is None:
                        if await self._one(waiting[0], process):
                            told.kills += 1
                            waiting.pop(0)
                    await process.wait()
                finally:
                    _end(process.pid)
                assert process.stdout is not None
                output = await process.stdout.read()
            told.read(log.read_text(errors="replace"))
            results = [line for line in output.decode().splitlines() if line.startswith("{")]
            if results:
                told.ended = json.loads(results[-1])  # Ray tells of lost workers there as well
            elif process.returncode == GIVEN_BACK:  # anybody may claim the job now
                told.given_back += 1
            else:
                assert process.returncode == -signal.SIGKILL, log.read_text()[-3000:]
                await self._things.execute(
                    "UPDATE jobs SET lease_until = now() - interval '1 s' WHERE lease_until > now()"
                )
        return told

    async def _one(self, moment: Moment, process: asyncio.subprocess.Process) -> bool:
        """Whether the moment came before the process ended by itself."""
        coming = asyncio.create_task(moment(psutil.Process(process.pid)))
        ending = asyncio.create_task(process.wait())
        await asyncio.wait([coming, ending], return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            return False
        await coming
        return True

    async def _start(self, stderr: Any) -> asyncio.subprocess.Process:
        things = self._things
        (things.root / "cache").exists() or (things.root / "cache").symlink_to(things.cache_dir)
        environment = {
            **os.environ,
            "VISUALINDEX_POSTGRES_DSN": things.dsn,
            "VISUALINDEX_STATE_DIR": str(things.root),
            **(self._ray or {}),
            "VISUALINDEX_NOTICE_DIR": str(things.root / "notice"),  # not on a node of the cluster
        }
        place = "here" if self._ray is None else "own"
        command = ["-m", "visualindex_jobs", self._kind, "--spec", str(self._spec), "--place", place]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )


def _end(pid: int) -> None:
    """Nothing that the process started outlives it: as when a pod is gone."""
    for child in _session(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _session(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid:
                found.append(process)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def after_chunks(things: Collection, count: int) -> Moment:
    """Kills the driver once so many chunks are in the catalog."""

    async def moment(driver: psutil.Process) -> None:
        await until(lambda: committed_at_least(things, count))
        driver.kill()

    return moment


def while_building(things: Collection) -> Moment:
    """Kills the driver while it writes the segments of the generation."""

    async def moment(driver: psutil.Process) -> None:
        await until(lambda: asyncio.to_thread(_builds, things))
        driver.kill()

    return moment


def some_decoder(things: Collection, count: int) -> Moment:
    """Kills a decoding process once so many chunks are in the catalog; the driver lives."""

    async def moment(driver: psutil.Process) -> None:
        await until(lambda: committed_at_least(things, count))
        random.choice(driver.children(recursive=True)).kill()

    return moment


def soon(rng: random.Random, longest_s: float) -> Moment:
    """Kills the driver at some moment of its first seconds: while it starts, resumes or plans."""

    async def moment(driver: psutil.Process) -> None:
        await asyncio.sleep(rng.uniform(0, longest_s))
        driver.kill()

    return moment


def under_way(things: Collection, rng: random.Random) -> Moment:
    """Kills the driver, or one of the processes below it, some moments after a few more chunks were committed."""

    async def moment(driver: psutil.Process) -> None:
        wanted = await committed(things) + rng.randint(1, 3)
        await until(lambda: committed_at_least(things, wanted))
        await asyncio.sleep(rng.uniform(0, 1))
        children = driver.children(recursive=True)
        chosen = driver if not children or rng.random() < 0.7 else rng.choice(children)
        chosen.kill()

    return moment


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():  # noqa: ASYNC110 - what is waited for is another process
        await asyncio.sleep(_LOOK_S)


async def committed_at_least(things: Collection, count: int) -> bool:
    return await committed(things) >= count


def _builds(things: Collection) -> bool:
    return any(things.cache_dir.glob("building/*/*"))


async def committed(things: Collection) -> int:
    """Chunks of the open job that are in the catalog."""

    async def work(connection: Any) -> int:
        query = "SELECT count(*) FROM job_chunks c JOIN jobs j USING (job_id) WHERE j.state = 'running'"
        row = await (await connection.execute(query)).fetchone()
        return int(row[0])

    return await things.catalog.connections.read(work)


def some_ray_worker(things: Collection, count: int) -> Moment:
    """Kills a process of Ray that makes chunks, once so many are in the catalog; the driver lives."""

    async def moment(_: psutil.Process) -> None:
        await until(lambda: committed_at_least(things, count))
        random.choice(makers()).kill()

    return moment


def makers() -> list[psutil.Process]:
    """Those below this process, which started Ray."""
    below = psutil.Process().children(recursive=True)
    return [one for one in below if "ray::MapWorker" in " ".join(one.cmdline())]
