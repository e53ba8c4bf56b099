"""Kill every part of a service under load, and fill its disks: what fails, how long, and whether anything is lost.

    python -m benchmarks.chaos [--rounds 3] [--seed 1] [--short] [--only gateway,proxy] [--json FILE]

Starts a service of its own on 127.0.0.1 in a temporary folder. Each fault strikes at a moment drawn by chance, the load
goes on until every part is back and some seconds more, and then every image ever written is looked at. `--short` kills
each part once and fills no disk. The encoder runs inside the gateways, as it does by default on CPU, and dies with them.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults import Fault, before, can_mount, full_disks, kills, small_disk
from benchmarks.ledger import Ledger, Verdict, verify
from benchmarks.stack import Stack, end_on_signals
from benchmarks.traffic import Outcome, Traffic, counted

PORT = 8410
_CALM_S = 2.0
_AFTER_S = 3.0
_FIRST_S = 60.0
_VERIFY_TRIES = 3


@dataclass(frozen=True)
class Row:
    """What one fault did. `outage_s` is the time from the fault to the last failed answer's end, 0 without any.

    `first_s` is the time to the first success of a request that began after the fault, `whole_s` to all parts being back
    (None: not within the limit); for a disk both count from the moment room is made.
    """

    fault: str
    sent: int
    failed: dict[str, int]
    late: int
    first_s: float | None
    outage_s: float
    whole_s: float | None
    acknowledged: int
    lost: list[str]
    half_there: list[str]


async def strike(
    stack: Stack, fault: Fault, ledger: Ledger, seed: int, *, rate: float = 1.0, thorough: bool = True
) -> Row:
    """Put load on, strike, wait until the service is whole, and check every image of the ledger.

    `thorough` looks at all parts of images that an earlier check found whole, too.
    """
    chance = random.Random(f"{seed} {fault.name}")
    traffic = Traffic(
        stack.url, ledger, chance.randrange(2**31), searches_per_s=10 * rate, writes_per_s=4 * rate
    )
    async with traffic:
        await traffic.until(lambda: _steady(traffic), _FIRST_S)
        await asyncio.sleep(_CALM_S + chance.random() * 2)
        was = await asyncio.to_thread(before, stack)
        struck = await asyncio.to_thread(fault.strike, stack, chance)
        mended = struck
        if fault.mend is not None:
            await asyncio.sleep(fault.hold_s)
            await asyncio.to_thread(fault.mend, stack)
            mended = time.monotonic()

        def whole() -> bool:
            return fault.whole(stack, was, [o for o in traffic.outcomes if o.began > mended])

        healed = await traffic.until(whole, fault.limit_s)
        whole_s = time.monotonic() - mended if healed else None
        await asyncio.sleep(_AFTER_S)
    verdict = await _verified(stack, ledger, thorough)
    return _row(fault, traffic.since(struck), struck, mended, whole_s, ledger, verdict)


def _steady(traffic: Traffic) -> bool:
    return {o.kind for o in traffic.outcomes if o.ok} == {"search", "write"}


async def _verified(stack: Stack, ledger: Ledger, thorough: bool) -> Verdict:
    """The ledger's check; once the service is whole it must pass, with a little patience for a slow machine."""
    for last in (*[False] * (_VERIFY_TRIES - 1), True):
        await asyncio.to_thread(stack.until, stack.ready, "the service can be checked", 180.0)
        try:
            return await verify(stack.url, ledger, thorough=thorough)
        except Exception as exc:
            if last:
                raise
            print(f"the check is repeated: {type(exc).__name__}: {exc}", file=sys.stderr)
    raise AssertionError("unreachable")


def _row(
    fault: Fault,
    outcomes: list[Outcome],
    struck: float,
    mended: float,
    whole_s: float | None,
    ledger: Ledger,
    verdict: Verdict,
) -> Row:
    first = min((o.ended for o in outcomes if o.ok and o.began > mended), default=None)
    last = max((o.ended for o in outcomes if not o.ok), default=struck)
    return Row(
        fault=fault.name,
        sent=len(outcomes),
        failed=dict(counted(outcomes)),
        late=sum(o.late for o in outcomes),
        first_s=None if first is None else first - mended,
        outage_s=max(0.0, last - mended if last > struck else 0.0),
        whole_s=whole_s,
        acknowledged=ledger.acknowledged,
        lost=verdict.lost,
        half_there=verdict.half_there,
    )


async def run(
    stack: Stack, faults: list[Fault], *, rounds: int, seed: int, ledger: Ledger, rate: float = 1.0
) -> list[Row]:
    """Every fault once a round; prints each row as it is known."""
    rows = []
    for number in range(rounds):
        for fault in faults:
            last = number == rounds - 1 and fault is faults[-1]
            row = await strike(stack, fault, ledger, seed * 1000 + number, rate=rate, thorough=last)
            print(line(row), flush=True)
            for fact in [*row.lost, *row.half_there][:20]:
                print(f"    {fact}", flush=True)
            rows.append(row)
    return rows


HEADER = (
    "| fault | requests | failed | late | first success s | last failure s | whole again s | acknowledged writes "
    "| lost | half there |\n|---|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """One row of the table."""
    failed = ", ".join(f"{n} {kind}" for kind, n in sorted(row.failed.items())) or "0"
    times = (f"{s:.1f}" if s is not None else "never" for s in (row.first_s, row.outage_s, row.whole_s))
    ends = (row.acknowledged, len(row.lost), len(row.half_there))
    return (
        f"| {row.fault} | {row.sent} | {failed} | {row.late} | "
        + " | ".join([*times, *map(str, ends)])
        + " |"
    )


@contextmanager
def service(
    folder: Path, port: int, objects: Path | None = None, spec: dict[str, Any] | None = None
) -> Iterator[Stack]:
    """A running service with all defaults, or those of `spec` changed, ended and cleared away afterwards."""
    spec = (spec or {}) if objects is None else {"storage": {"folder": str(objects)}}
    stack = Stack(folder, port, spec)
    try:
        seconds = stack.start()
        print(f"service started in {seconds:.1f} s", flush=True)
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(stack.state.sockets, ignore_errors=True)


def _kill_rounds(arguments: argparse.Namespace, chosen: list[Fault]) -> list[Row]:
    with (
        tempfile.TemporaryDirectory(prefix="vi-chaos-") as folder,
        service(Path(folder) / "state", arguments.port) as stack,
    ):
        return asyncio.run(run(stack, chosen, rounds=arguments.rounds, seed=arguments.seed, ledger=Ledger()))


def _disk_rounds(arguments: argparse.Namespace, chosen: list[Fault]) -> list[Row]:
    with (
        tempfile.TemporaryDirectory(prefix="vi-chaos-") as folder,
        small_disk(Path(folder) / "state", 1024) as state,
        small_disk(Path(folder) / "objects", 128) as objects,
        service(state, arguments.port, objects) as stack,
    ):
        return asyncio.run(run(stack, chosen, rounds=arguments.rounds, seed=arguments.seed, ledger=Ledger()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each fault strikes")
    parser.add_argument("--seed", type=int, default=1, help="draws moments, victims and the load")
    parser.add_argument("--short", action="store_true", help="one kill each, no full disks")
    parser.add_argument("--only", help="names of faults, separated by commas")
    parser.add_argument("--port", type=int, default=PORT, help="port of the service")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    return parser.parse_args()


def main() -> None:
    """Run, print the table, exit with 1 when something was lost or did not heal."""
    end_on_signals()
    arguments = _arguments()
    arguments.rounds = 1 if arguments.short else arguments.rounds
    only = None if arguments.only is None else set(arguments.only.split(","))
    killing = [f for f in kills() if only is None or f.name in only]
    filling = [f for f in full_disks() if not arguments.short and (only is None or f.name in only)]
    if filling and not can_mount():
        print("full disks are left out: mounting a small file system needs root", file=sys.stderr)
        filling = []
    print(HEADER, flush=True)
    rows = (_kill_rounds(arguments, killing) if killing else []) + (
        _disk_rounds(arguments, filling) if filling else []
    )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    print("\n" + "\n".join([HEADER, *map(line, rows)]))
    if any(row.lost or row.half_there or row.whole_s is None for row in rows):
        sys.exit("something was lost, half there or did not heal: see the table")


if __name__ == "__main__":
    main()
