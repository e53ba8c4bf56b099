"""Closed-loop load at a fixed number of connections: wrk where it is installed, else a lean client of our own.

Both post the same multipart body again and again; in `fresh` loads each body's picture carries another comment, so that
no cache by content knows it. The client runs in a process of its own, and its CPU time is reported.

    python -m benchmarks.load URL PLAN.json    (what the benchmark starts where wrk is missing)
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.photographs import distinct, split_at_comment

BOUNDARY = "visualindex-benchmark"
_ANSWER_S = 30.0
_SCRIPT = """
local function read(path) local f = assert(io.open(path, "rb")); local d = f:read("*a"); f:close(); return d end
local parts = {{}}
for n = 1, {count} do parts[n] = read("{folder}/" .. n) end
local headers = {{ ["Content-Type"] = "multipart/form-data; boundary={boundary}" }}
local number = {first}
local threads = 0
function setup(thread) thread:set("offset", threads); threads = threads + 1 end
function init() number = number + offset * 100000000 end
function request()
  if {fresh} then number = number + 1 end
  return wrk.format("POST", "{path}", headers, table.concat(parts, string.format("%016d", number)))
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("\\nRESULT {{\\"requests\\": %d, \\"seconds\\": %f, \\"failed\\": %d, \\"refused\\": %d, " ..
    "\\"p50_ms\\": %f, \\"p99_ms\\": %f}}\\n", summary.requests, summary.duration / 1e6, e.status + e.timeout,
    e.connect + e.read + e.write, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Plan:
    """What to send: `parts` with 16 digits between them as the body, for so many seconds on so many connections.

    `first` is the number the digits count from; `fresh` says whether they count at all.
    """

    path: str
    parts: tuple[bytes, ...]
    connections: int
    seconds: float
    first: int = 0
    fresh: bool = True


@dataclass(frozen=True)
class Measured:
    """What a load met. `failed` had an error status or no answer in time; `refused` broke on the connection."""

    requests: int
    seconds: float
    failed: int
    refused: int
    p50_ms: float
    p99_ms: float
    client_cpu_s: float = 0.0

    @property
    def errors(self) -> int:
        """Requests without a good answer."""
        return self.failed + self.refused

    @property
    def per_second(self) -> float:
        """Good answers per second."""
        return (self.requests - self.failed) / self.seconds


def upload(jpegs: list[bytes], fields: dict[str, str], part: str = "image") -> tuple[bytes, ...]:
    """A multipart body around JPEGs, open where digits belong: in each file's name and in each picture's comment."""
    head = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    pieces = [head]
    for position, jpeg in enumerate(jpegs):
        before, after = split_at_comment(distinct(jpeg, position))
        opening = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part}"; filename="{position}-'
        pieces[-1] += opening.encode()
        pieces += [b'.jpg"\r\nContent-Type: image/jpeg\r\n\r\n' + before, after + b"\r\n"]
    pieces[-1] += f"--{BOUNDARY}--\r\n".encode()
    return tuple(pieces)


def generator() -> str:
    """Which client puts the load on."""
    return "wrk" if shutil.which("wrk") else "benchmarks.load (asyncio sockets)"


def run(url: str, plan: Plan, *, to_the_end: bool = False) -> Measured:
    """Put the load on `url` from a process of its own, and wait for its figures.

    `to_the_end` waits for the requests that are under way when the time is up, and counts them and their time: for
    requests of seconds. Our own client does; wrk drops them.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate(plan.parts, 1):
            (Path(folder) / str(number)).write_bytes(part)
        wrk = None if to_the_end else shutil.which("wrk")
        command = _own_command(url, plan, Path(folder)) if wrk is None else _wrk(wrk, url, plan, Path(folder))
        return _figures(command)


def _wrk(wrk: str, url: str, plan: Plan, folder: Path) -> list[str]:
    script = folder / "load.lua"
    names = {"folder": folder, "count": len(plan.parts), "boundary": BOUNDARY, "path": plan.path}
    script.write_text(_SCRIPT.format(**names, first=plan.first, fresh=str(plan.fresh).lower()))
    loops = ["-t1", f"-c{plan.connections}", f"-d{max(1, round(plan.seconds))}s"]
    return [wrk, *loops, "--timeout", f"{_ANSWER_S:.0f}s", "--latency", "-s", str(script), url]


def _own_command(url: str, plan: Plan, folder: Path) -> list[str]:
    settings = {k: v for k, v in asdict(plan).items() if k != "parts"}
    (folder / "plan.json").write_text(json.dumps({**settings, "parts": len(plan.parts)}))
    return [sys.executable, "-m", "benchmarks.load", url, str(folder / "plan.json")]


def _figures(command: list[str]) -> Measured:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    result = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if process.returncode or not result:
        raise RuntimeError(f"the load generator failed ({process.returncode}): {output[-1000:]}")
    figures = json.loads(result[0].removeprefix("RESULT "))
    return Measured(**figures, client_cpu_s=usage.ru_utime + usage.ru_stime)


@dataclass
class _Tally:
    taken: list[float] = field(default_factory=list)
    failed: int = 0
    refused: int = 0
    number: int = 0


async def _post_for(url: str, plan: Plan) -> Measured:
    tally = _Tally(number=plan.first)
    started = time.perf_counter()
    await asyncio.gather(*(_connection(url, plan, tally, started) for _ in range(plan.connections)))
    p50, p99 = np.percentile(tally.taken, (50, 99)) * 1000 if tally.taken else (0.0, 0.0)
    seconds = time.perf_counter() - started
    return Measured(len(tally.taken), seconds, tally.failed, tally.refused, float(p50), float(p99))


async def _connection(url: str, plan: Plan, tally: _Tally, started: float) -> None:
    while time.perf_counter() - started < plan.seconds:
        try:
            await _until_broken(url, plan, tally, started)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            tally.refused += 1
            await asyncio.sleep(0.05)


async def _until_broken(url: str, plan: Plan, tally: _Tally, started: float) -> None:
    to = urlsplit(url)
    reader, writer = await asyncio.open_connection(to.hostname, to.port)
    try:
        while time.perf_counter() - started < plan.seconds:
            tally.number += plan.fresh
            sent = time.perf_counter()
            async with asyncio.timeout(_ANSWER_S):
                writer.writelines(_request(to.netloc, plan, tally.number))
                await writer.drain()
                status = await _answer(reader)
            tally.taken.append(time.perf_counter() - sent)
            tally.failed += status >= 400
    finally:
        writer.close()


def _request(host: str, plan: Plan, number: int) -> list[bytes]:
    digits = f"{number:016d}".encode()
    length = sum(map(len, plan.parts)) + 16 * (len(plan.parts) - 1)
    head = (
        f"POST {plan.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    filled = [piece for part in plan.parts for piece in (digits, part)]
    return [head.encode(), *filled[1:]]


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
    await reader.readexactly(length)
    return int(lines[0].split(" ")[1])


def main() -> None:
    """Put the load on that a plan's folder describes; print one line of figures."""
    url, file = sys.argv[1], Path(sys.argv[2])
    settings = json.loads(file.read_text())
    count = settings.pop("parts")
    parts = tuple((file.parent / str(number)).read_bytes() for number in range(1, count + 1))
    measured = asdict(asyncio.run(_post_for(url, Plan(parts=parts, **settings))))
    measured.pop("client_cpu_s")
    print("RESULT " + json.dumps(measured))


if __name__ == "__main__":
    main()
