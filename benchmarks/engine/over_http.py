"""Closed-loop load of JSON requests over a fixed number of connections, by wrk, whose own CPU time is reported.

wrk is a C program: a client in Python would be what is measured at 16 connections.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
local bodies = {{}}
for line in io.lines("{bodies}") do bodies[#bodies + 1] = line end
local headers = {{ ["Content-Type"] = "application/json" }}
local number = 0
function request()
  number = number % #bodies + 1
  return wrk.format(bodies[number] == "" and "GET" or "POST", "{path}", headers, bodies[number])
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("\\nRESULT {{\\"requests\\": %d, \\"seconds\\": %f, \\"errors\\": %d, " ..
    "\\"p50_ms\\": %f, \\"p99_ms\\": %f}}\\n", summary.requests, summary.duration / 1e6,
    e.status + e.timeout + e.connect + e.read + e.write, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Answered:
    """What a load met; `client_cpu_s` are the CPU seconds of wrk."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float
    client_cpu_s: float

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return (self.requests - self.errors) / self.seconds


def available() -> bool:
    """Whether there is a load generator here."""
    return shutil.which("wrk") is not None


def load(url: str, path: str, bodies: Sequence[bytes], connections: int, seconds: float) -> Answered:
    """Post the bodies, none of which has a line break, in turn; an empty one is got instead.

    Raises RuntimeError without wrk or when it fails.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError(
            "wrk is not installed, and it is what measures servers here: sudo apt-get install wrk"
        )
    with tempfile.TemporaryDirectory() as folder:
        lines, script = Path(folder) / "bodies", Path(folder) / "load.lua"
        lines.write_bytes(b"\n".join(bodies) + b"\n")
        script.write_text(_SCRIPT.format(bodies=lines, path=path))
        loops = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency"]
        return _run([wrk, *loops, "-s", str(script), url])


def _run(command: list[str]) -> Answered:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    result = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if process.returncode or not result:
        raise RuntimeError(f"wrk failed ({process.returncode}): {output[-1000:]}")
    figures = json.loads(result[0].removeprefix("RESULT "))
    return Answered(**figures, client_cpu_s=usage.ru_utime + usage.ru_stime)
