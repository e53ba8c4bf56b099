"""Load of every kind for a long time: nothing may be lost or come back, memory stays level, the slowest answers too.

    python -m benchmarks.soak [--minutes 20] [--seed 1] [--rate 1.0] [--json FILE]

Starts a service of its own on 127.0.0.1 in a temporary folder, with two shards. Searches (plain, filtered, grouped,
sorted), single writes, batches, deletions and patches go on while every minute a generation is built and activated, and
after every third one rolled back. Every few minutes all writes are held against what the service says it has.
"""

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.chaos import service
from benchmarks.ledger import Ledger, Verdict, Written, verify
from benchmarks.stack import Stack, end_on_signals
from benchmarks.traffic import Outcome, Traffic, counted

PORT = 8420
SPEC: dict[str, Any] = {"index": {"shards": 2, "flatBelow": 200, "keepGenerations": 2}}
_NAME = "images"
_PERIOD_S = 60.0
_SAMPLE_S = 5.0
_VERIFY_EVERY = 5
_BATCH = 8
_WARM_SHARE = 0.3
"""Of the time, until caches, pools and allocators are full."""


@dataclass
class Soak:
    """What was seen."""

    outcomes: list[Outcome] = field(default_factory=list)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By role: seconds since the start, and MiB of all its processes that they share with nobody else."""
    activations: int = 0
    rollbacks: int = 0
    failed_activations: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    generations: Counter[str] = field(default_factory=Counter)
    """Answers by the generation that they are of."""


class Mixed(Traffic):
    """The load of `Traffic` with searches of every kind, and with batches."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.soak = Soak(self.outcomes)
        kinds: tuple[dict[str, Any], ...] = (
            {},
            {"filter": {"range": {"metadata.revision": {"gte": 1}}}},
            {"group_by": {"field": "metadata.revision", "size": 3}},
            {"sort": {"field": "metadata.revision", "order": "desc"}},
            {"facets": ["metadata.revision"], "filter": {"exists": "metadata.revision"}},
        )
        self._kinds = itertools.cycle(kinds)

    async def _search(self) -> None:
        picture, _ = self._picture()
        asked = next(self._kinds)
        form = {
            "files": {"image": ("picture.jpg", picture, "image/jpeg")},
            "data": {"request": json.dumps({"limit": 10, **asked})},
        }
        answer = await self._send("search", "POST", "/api/search", **form)
        if answer is not None:
            self.soak.generations[answer["generation"]] += 1
            self._judge(asked, answer["hits"])

    def _judge(self, asked: dict[str, Any], hits: list[dict[str, Any]]) -> None:
        """What must hold of the hits whatever is written meanwhile."""
        if len({hit["image_id"] for hit in hits}) < len(hits):
            self.soak.wrong.append(f"an image twice among the hits of {asked}")
        scores = [hit["score"] for hit in hits]
        if "sort" not in asked and scores != sorted(scores, reverse=True):
            self.soak.wrong.append(f"hits of {asked} out of order")

    async def _write(self) -> None:
        if self._random.random() < 0.1:
            await self._batch()
        else:
            await super()._write()

    async def _batch(self) -> None:
        files, wanted = [], list[tuple[uuid.UUID, Written]]()
        for _ in range(_BATCH):
            picture, digest = self._picture()
            image_id = uuid.UUID(int=self._random.getrandbits(128), version=4)
            files.append(("images", (f"{image_id}.jpg", picture, "image/jpeg")))
            wanted.append((image_id, Written(digest.hex(), 0)))
        about = [{"image_id": str(image_id), "metadata": {"revision": 0}} for image_id, _ in wanted]
        files.append(("request", (None, json.dumps({"images": about}).encode(), "application/json")))  # type: ignore[arg-type]
        with ExitStack() as writes:
            told = [writes.enter_context(self.ledger.writing(*one)) for one in wanted]
            answer = await self._send("write", "POST", "/api/images/batch", files=files)
            for acknowledge, item in zip(told, (answer or {}).get("items", ()), strict=False):
                if item.get("written"):
                    acknowledge(item["written"]["token"])


async def build_and_activate(url: str, soak: Soak, period_s: float) -> None:
    """Every minute a new generation, and after every third one the one before."""
    async with httpx.AsyncClient(base_url=url, timeout=150, trust_env=False) as client:
        for number in itertools.count(1):
            due = time.monotonic() + period_s
            try:
                await _activated(client, soak)
                if number % 3 == 0:
                    answer = await client.post(f"/api/indexes/{_NAME}/rollback", json={"wait_s": 60})
                    soak.rollbacks += _note(soak, "rollback", answer)
            except (httpx.HTTPError, TimeoutError) as exc:
                soak.failed_activations.append(f"{type(exc).__name__}: {exc}")
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _activated(client: httpx.AsyncClient, soak: Soak) -> None:
    path = f"/api/indexes/{_NAME}"
    job = (await client.post(f"{path}/generations", json={})).raise_for_status().json()
    async with asyncio.timeout(120):
        while job["state"] in ("queued", "running"):
            await asyncio.sleep(0.5)
            job = (await client.get(f"{path}/jobs/{job['job_id']}")).raise_for_status().json()
    if job["state"] != "done":
        soak.failed_activations.append(f"build: {job['problem']}")
        return
    generation = job["result"]["generation"]
    answer = await client.post(f"{path}/generations/{generation}/activate", json={"wait_s": 60})
    soak.activations += _note(soak, "activation", answer)


def _note(soak: Soak, what: str, answer: httpx.Response) -> bool:
    if answer.status_code == 200 and answer.json()["state"] == "active":
        return True
    soak.failed_activations.append(f"{what}: {answer.status_code} {answer.text[:300]}")
    return False


async def sample_memory(stack: Stack, soak: Soak) -> None:
    """Note the memory of every role again and again."""
    started = time.monotonic()
    while True:
        used = await asyncio.to_thread(_used, stack)
        for role, megabytes in used.items():
            soak.memory.setdefault(role, []).append((time.monotonic() - started, megabytes))
        await asyncio.sleep(_SAMPLE_S)


def _used(stack: Stack) -> dict[str, float]:
    used: dict[str, float] = {}
    for role, group in stack.processes().items():
        for process in group:
            try:
                used[role] = used.get(role, 0.0) + process.memory_full_info().uss / 2**20
            except psutil.Error:
                continue
    return used


async def counts_agree(url: str, ledger: Ledger) -> list[str]:
    """Whether the shards hold just as many images of each revision as were written; nothing is written meanwhile."""
    if not all(entry.certain for entry in ledger.entries.values()):
        return []
    wanted = Counter(e.possible[0].revision for e in ledger.entries.values() if e.possible[0] is not None)
    query = {"sort": {"field": "metadata.revision"}, "limit": 1, "facets": ["metadata.revision"]}
    any_image = next(i for i, e in ledger.entries.items() if e.possible[0] is not None)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        asked = {
            **query,
            "query": {"image_id": str(any_image)},
            "include_self": True,
            "consistency": "strong",
        }
        answer = (await client.post("/api/search", json=asked)).raise_for_status().json()
    found = {count["value"]: count["count"] for count in answer["facets"]["metadata.revision"]}
    if found == dict(wanted):
        return []
    return [f"the shards have {sum(found.values())} images by revision, {sum(wanted.values())} were written"]


async def held_against(url: str, ledger: Ledger, verdict: Verdict, *, thorough: bool) -> None:
    """Add what a check finds."""
    found = await verify(url, ledger, thorough=thorough)
    verdict.checked += found.checked
    verdict.lost += found.lost + await counts_agree(url, ledger)
    verdict.half_there += found.half_there


async def soak_for(stack: Stack, minutes: float, seed: int, rate: float) -> tuple[Soak, Ledger, Verdict]:
    """The load, in stretches between which everything written is looked at."""
    ledger, verdict = Ledger(), Verdict()
    load = Mixed(stack.url, ledger, seed, searches_per_s=10 * rate, writes_per_s=4 * rate)
    soak = load.soak
    async with asyncio.TaskGroup() as background:
        tasks = [
            background.create_task(sample_memory(stack, soak)),
            background.create_task(build_and_activate(stack.url, soak, _PERIOD_S)),
        ]
        left = minutes
        while left > 0:
            stretch = min(left, _VERIFY_EVERY)
            async with load:
                await asyncio.sleep(stretch * 60)
            left -= stretch
            await held_against(stack.url, ledger, verdict, thorough=left <= 0)
            told = (
                f"{minutes - left:.0f} min: {len(soak.outcomes)} requests, {soak.activations} activations, "
            )
            print(told + f"{len(verdict.lost)} lost, {len(verdict.half_there)} half there", flush=True)
        for task in tasks:
            task.cancel()
    return soak, ledger, verdict


def slope(samples: list[tuple[float, float]]) -> tuple[float, float, float]:
    """MiB at the end of warming up and at the end, and MiB per hour between, by least squares."""
    seconds, used = np.array(samples).T
    warm = seconds >= seconds[-1] * _WARM_SHARE
    return float(used[warm][0]), float(used[-1]), float(np.polyfit(seconds[warm], used[warm], 1)[0] * 3600)


def per_minute(outcomes: list[Outcome], kind: str) -> list[tuple[int, int, float, float]]:
    """Minute, requests, and the 50th and 99th percentile of milliseconds of those that succeeded."""
    done = [o for o in outcomes if o.kind == kind and o.ok]
    first = min((o.began for o in outcomes), default=0.0)
    minutes: dict[int, list[float]] = {}
    for one in done:
        minutes.setdefault(int((one.began - first) // 60), []).append((one.ended - one.began) * 1000)
    return [
        (minute, len(took), float(np.percentile(took, 50)), float(np.percentile(took, 99)))
        for minute, took in sorted(minutes.items())
    ]


def report(soak: Soak, ledger: Ledger, verdict: Verdict) -> str:
    """The tables."""
    failed = ", ".join(f"{n} {kind}" for kind, n in sorted(counted(soak.outcomes).items())) or "none"
    counts = (len(verdict.lost), len(verdict.half_there), soak.activations, soak.rollbacks)
    lines = [
        f"{len(soak.outcomes)} requests, failed: {failed}; {ledger.acknowledged} writes acknowledged",
        "{} lost or back, {} half there, {} activations, {} rollbacks".format(*counts),
        f"{len(soak.failed_activations)} failed activations; {len(soak.generations)} generations answered",
        "",
        "| processes | MiB warm | MiB at the end | MiB per hour |",
        "|---|---|---|---|",
    ]
    for role, samples in sorted(soak.memory.items()):
        if len(samples) > 3:
            warm, end, climb = slope(samples)
            lines.append(f"| {role} | {warm:.0f} | {end:.0f} | {climb:+.0f} |")
    for kind in ("search", "write"):
        lines += ["", f"| minute | {kind} requests | p50 ms | p99 ms |", "|---|---|---|---|"]
        lines += [
            f"| {m} | {n} | {p50:.0f} | {p99:.0f} |" for m, n, p50, p99 in per_minute(soak.outcomes, kind)
        ]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="draws the load")
    parser.add_argument("--rate", type=float, default=1.0, help="1: ten searches and four writes a second")
    parser.add_argument("--port", type=int, default=PORT, help="port of the service")
    parser.add_argument("--json", type=Path, help="file to write what was seen to")
    return parser.parse_args()


def main() -> None:
    """Run, print the tables, exit with 1 when something was lost, came back, failed to activate or was wrong."""
    end_on_signals()
    arguments = _arguments()
    with (
        tempfile.TemporaryDirectory(prefix="vi-soak-") as folder,
        service(Path(folder) / "state", arguments.port, spec=SPEC) as stack,
    ):
        soak, ledger, verdict = asyncio.run(
            soak_for(stack, arguments.minutes, arguments.seed, arguments.rate)
        )
    print(report(soak, ledger, verdict))
    faults = [*verdict.lost, *verdict.half_there, *soak.failed_activations, *soak.wrong]
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"memory": soak.memory, "faults": faults, "verdict": asdict(verdict)})
        )
    if faults:
        print("\n".join(faults[:40]), file=sys.stderr)
        sys.exit(f"{len(faults)} things were wrong")


if __name__ == "__main__":
    main()
