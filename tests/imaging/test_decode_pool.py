"""The pool survives what images do to decoders, and its callers get their answer in time."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from imaging_pictures import BOUNDS, CORNERS, SQUASH, close, corners, encoded, natural, quadrants
from PIL import Image

from visualindex.colours import name_of
from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import DecodeJob, DecodePool, InputSpec
from visualindex.imaging.arena import Arena
from visualindex.imaging.decoding import decode
from visualindex.imaging.wire import BrokenWorkerError, end_of_message, message, read_answer, read_head
from visualindex.spec import LimitsSpec

QUICK = DecodeJob(encoded(quadrants(), "JPEG"), SQUASH)
SLOW = DecodeJob(encoded(Image.new("RGB", (7_000, 7_000)), "PNG", compress_level=1), SQUASH)
"""Forty-nine megapixels: some hundred milliseconds in any decoder."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fails after thirty seconds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what other processes do sends no event
            await asyncio.sleep(0.005)


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def test_colours_come_when_asked_for(pool: DecodePool) -> None:
    data = encoded(quadrants(), "PNG")
    asked = await pool.decode(DecodeJob(data, SQUASH, colours=True))
    assert {name_of(*colour[:3]) for colour in asked.colours} == {"red", "green", "blue", "yellow"}
    alone = await pool.decode(DecodeJob(data, None, colours=True))
    assert alone.colours == asked.colours
    assert (await pool.decode(DecodeJob(data, SQUASH))).colours == ()


async def busy_worker(pool: DecodePool) -> int:
    """The process that starts to work now."""
    before = {pid: cpu_seconds(pid) for pid in pool.pids}
    await until(lambda: any(cpu_seconds(pid) > used for pid, used in before.items()))
    return next(pid for pid, used in before.items() if cpu_seconds(pid) > used)


async def kill_all(pool: DecodePool) -> None:
    """Kill all workers of the pool and wait until they are dead."""
    pids = pool.pids
    signal_all(pool, signal.SIGKILL)
    await until(lambda: not any(_runs(pid) for pid in pids))


def signal_all(pool: DecodePool, number: signal.Signals) -> None:
    """Send a signal to all workers of the pool."""
    for pid in pool.pids:
        os.kill(pid, number)


async def test_pixels_thumbnails_and_info_come_back(pool: DecodePool) -> None:
    """A worker's answer equals decoding in process, and its pixels may be written to."""
    job = DecodeJob(
        encoded(natural(800, 600), "JPEG"), SQUASH, box=(0.1, 0.2, 0.5, 0.6), thumbnails=(128, 320)
    )
    here, there = decode(job, BOUNDS), await pool.decode(job)
    assert here.pixels is not None
    assert there.pixels is not None
    assert np.array_equal(here.pixels, there.pixels)
    assert there.pixels.flags.writeable
    assert dict(there.thumbnails) == dict(here.thumbnails)
    assert there.info == here.info
    assert there.cpu_ms > 0


async def test_an_image_of_several_megabytes_crosses_whole(pool: DecodePool) -> None:
    """Bytes beyond one chunk arrive in order, and the memory they took is given back."""
    noise = np.random.default_rng(1).integers(0, 256, (1400, 1400, 3), np.uint8)
    job = DecodeJob(encoded(Image.fromarray(noise), "BMP"), InputSpec(1400, 1400, "squash", "bicubic"))
    decoded = await pool.decode(job)
    assert decoded.pixels is not None
    assert np.array_equal(decoded.pixels, noise)


async def test_concurrent_jobs_get_their_own_answers(pool: DecodePool) -> None:
    """Answers are never swapped between callers."""
    shades = range(0, 240, 16)
    jobs = [DecodeJob(encoded(Image.new("RGB", (40, 40), (shade,) * 3), "PNG"), SQUASH) for shade in shades]
    answers = await asyncio.gather(*(pool.decode(job) for job in jobs))
    assert [int(answer.pixels[0, 0, 0]) for answer in answers if answer.pixels is not None] == list(shades)


async def test_problems_cross_the_border(pool: DecodePool) -> None:
    """A problem found in a worker reaches the caller as itself, and the worker goes on."""
    before = set(pool.pids)
    for data, expected in (
        (b"nonsense", ProblemType.UNSUPPORTED_IMAGE),
        (QUICK.data[:300], ProblemType.INVALID_IMAGE),
    ):
        with pytest.raises(ProblemError) as caught:
            await pool.decode(DecodeJob(data, SQUASH))
        assert caught.value.type is expected
    assert (await pool.decode(QUICK)).info.format == "jpeg"
    assert set(pool.pids) == before


async def test_a_job_over_time_is_killed_and_its_worker_replaced() -> None:
    """The slow job answers DECODE_TIMEOUT; the next one is decoded by another process."""
    pool = DecodePool(1, LimitsSpec(decode_timeout_ms=30))
    await pool.start()
    try:
        before = set(pool.pids)
        with pytest.raises(ProblemError) as caught:
            await pool.decode(SLOW)
        assert caught.value.type is ProblemType.DECODE_TIMEOUT
        assert "limits.decodeTimeoutMs" in caught.value.detail
        await until(lambda: len(set(pool.pids) - before) == 1 and len(pool.pids) == 2)
        (killed,) = before - set(pool.pids)
        assert not psutil.pid_exists(killed)
    finally:
        await pool.close()


async def test_a_decoder_killed_from_outside_costs_its_image_nothing() -> None:
    pool = DecodePool(1, LimitsSpec(decode_timeout_ms=60_000))
    await pool.start()
    try:
        slow = asyncio.create_task(pool.decode(SLOW))
        os.kill(await busy_worker(pool), signal.SIGKILL)
        assert (await slow).info.width == 7_000
    finally:
        await pool.close()


async def test_a_crashed_decoder_blames_the_image_once() -> None:
    """A worker killed mid-way answers INVALID_IMAGE with the signal; the other job and the pool go on."""
    pool = DecodePool(2, LimitsSpec(decode_timeout_ms=60_000))
    await pool.start()
    try:
        slow = asyncio.create_task(pool.decode(SLOW))
        os.kill(await busy_worker(pool), signal.SIGSEGV)
        other = await pool.decode(QUICK)
        with pytest.raises(ProblemError) as caught:
            await slow
        assert caught.value.type is ProblemType.INVALID_IMAGE
        assert "SIGSEGV" in caught.value.detail
        assert other.pixels is not None
        assert close(corners(other.pixels), CORNERS, 3)
        await until(lambda: len(pool.pids) == 3 and all(psutil.pid_exists(pid) for pid in pool.pids))
        assert (await pool.decode(SLOW)).info.width == 7_000
    finally:
        await pool.close()


async def test_workers_that_die_idle_are_replaced_unseen(pool: DecodePool) -> None:
    """No caller is blamed for a worker that ended between two jobs."""
    await kill_all(pool)
    assert (await pool.decode(QUICK)).info.format == "jpeg"


async def test_the_callers_deadline_leaves_the_worker_alive(pool: DecodePool) -> None:
    """A caller in a hurry gets DEADLINE_EXCEEDED; the image is not to blame and its worker goes on."""
    before = set(pool.pids)
    signal_all(pool, signal.SIGSTOP)
    with pytest.raises(ProblemError) as caught:
        await pool.decode(QUICK, deadline=time.time() + 0.05)
    assert caught.value.type is ProblemType.DEADLINE_EXCEEDED
    signal_all(pool, signal.SIGCONT)
    assert (await pool.decode(QUICK, deadline=time.time() + 60)).info.format == "jpeg"
    assert set(pool.pids) == before


async def test_a_deadline_in_the_past_is_refused_at_once(pool: DecodePool) -> None:
    """No worker is bothered."""
    with pytest.raises(ProblemError) as caught:
        await pool.decode(QUICK, deadline=time.time() - 1)
    assert caught.value.type is ProblemType.DEADLINE_EXCEEDED


async def test_a_caller_that_gives_up_disturbs_no_other(pool: DecodePool) -> None:
    """The answer of an abandoned job is not taken for the next one's."""
    signal_all(pool, signal.SIGSTOP)
    given_up = asyncio.create_task(pool.decode(DecodeJob(encoded(Image.new("RGB", (9, 9)), "PNG"), SQUASH)))
    await asyncio.wait([given_up], timeout=0.05)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    signal_all(pool, signal.SIGCONT)
    assert (await pool.decode(QUICK)).info.format == "jpeg"


async def test_a_full_queue_is_refused() -> None:
    """One job runs, one waits, the third is told to come back; the first two are answered."""
    pool = DecodePool(1, LimitsSpec(decode_timeout_ms=60_000), max_queue=1)
    await pool.start()
    try:
        signal_all(pool, signal.SIGSTOP)
        accepted = [asyncio.create_task(pool.decode(QUICK)) for _ in range(2)]
        await asyncio.wait(accepted, timeout=0.05)
        with pytest.raises(ProblemError) as caught:
            await pool.decode(QUICK)
        assert caught.value.type is ProblemType.OVERLOADED
        assert caught.value.retry_after_s is not None
        signal_all(pool, signal.SIGCONT)
        assert [answer.info.format for answer in await asyncio.gather(*accepted)] == ["jpeg", "jpeg"]
    finally:
        await pool.close()


@pytest.mark.parametrize("limit", [{"jobs_per_worker": 3}, {"rss_per_worker": 1}])
async def test_worn_workers_are_recycled(limit: dict[str, int]) -> None:
    """After so many jobs, or with so much memory, a worker makes room for a fresh one; no job fails."""
    pool = DecodePool(1, LimitsSpec(), **limit)
    await pool.start()
    try:
        before = set(pool.pids)
        for _ in range(8):
            await pool.decode(QUICK)
        await until(lambda: len(pool.pids) == 2 and not before & set(pool.pids))
    finally:
        await pool.close()


async def test_closing_ends_all_processes_and_answers_all_callers() -> None:
    """Running and waiting jobs are answered UNAVAILABLE, and so are later ones."""
    pool = DecodePool(1, LimitsSpec())
    await pool.start()
    pids = pool.pids
    signal_all(pool, signal.SIGSTOP)
    callers = [asyncio.create_task(pool.decode(QUICK)) for _ in range(3)]
    await asyncio.wait(callers, timeout=0.05)
    await pool.close()
    for caller in [*callers, asyncio.create_task(pool.decode(QUICK))]:
        with pytest.raises(ProblemError) as caught:
            await caller
        assert caught.value.type is ProblemType.UNAVAILABLE
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
async def test_a_pool_whose_workers_cannot_start_says_so(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting fails with UNAVAILABLE instead of waiting for ever."""
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(ProblemError) as caught:
        await DecodePool(1, LimitsSpec()).start()
    assert caught.value.type is ProblemType.UNAVAILABLE


async def test_decoding_recovers_once_workers_can_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no worker starts, jobs answer UNAVAILABLE; afterwards they are decoded."""
    pool = DecodePool(1, LimitsSpec())
    await pool.start()
    try:
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/bin/false")
            await kill_all(pool)
            with pytest.raises(ProblemError) as caught:
                await pool.decode(QUICK)
            assert caught.value.type is ProblemType.UNAVAILABLE
            await until(lambda: not pool.pids)
        assert (await pool.decode(QUICK)).info.format == "jpeg"
    finally:
        await pool.close()


async def test_workers_are_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker sees no secret, gains no privilege, and has bounded memory, files and core dumps."""
    monkeypatch.setenv("VISUALINDEX_S3_SECRET_KEY", "hunter2")
    pool = DecodePool(1, LimitsSpec())
    await pool.start()
    try:
        for pid in pool.pids:
            process = Path(f"/proc/{pid}")
            assert b"hunter2" not in (process / "environ").read_bytes()
            assert "NoNewPrivs:\t1" in (process / "status").read_text()
            limits = {
                line[:25].strip(): line[25:].split()[0]
                for line in (process / "limits").read_text().splitlines()
            }
            assert int(limits["Max address space"]) < 4 * 1024**3
            assert limits["Max core file size"] == "0"
            assert limits["Max file size"] == "0"
            assert int(limits["Max open files"]) <= 16
    finally:
        await pool.close()


PARENT = """
import asyncio
from visualindex.imaging import DecodePool
from visualindex.spec import LimitsSpec
async def main():
    pool = DecodePool(1, LimitsSpec())
    await pool.start()
    print(*pool.pids, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_the_parents_death_ends_its_workers() -> None:
    """Workers die with a parent that is killed, even those that cannot notice its end: they are stopped here."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    await parent.communicate()
    await until(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ({}, b""),
        ({"problem": "NO_SUCH_PROBLEM", "detail": ""}, b""),
        ({"info": {}, "thumbnails": [], "cpu_ms": 1}, bytes(64 * 64 * 3)),
        ({"info": {"format": "png", "width": 1, "height": 1}, "thumbnails": [], "cpu_ms": 1}, b"short"),
        (
            {"info": {"format": "png", "width": 1, "height": 1}, "thumbnails": [[9, 9]], "cpu_ms": 1},
            bytes(12_297),
        ),
        ({"info": {"format": "png", "width": 1, "height": 1}, "thumbnails": 7, "cpu_ms": 1}, bytes(12_288)),
    ],
)
def test_a_worker_that_answers_nonsense_is_recognised(head: dict[str, object], body: bytes) -> None:
    """A worker that an image took over cannot make the pool misread its answer."""
    with pytest.raises(BrokenWorkerError):
        read_answer(head, bytearray(body), QUICK)


def test_messages_are_bounded_and_objects() -> None:
    """A worker can neither announce an endless message nor send anything but a JSON object."""
    whole = bytearray(message({"a": 1}, 5))
    assert end_of_message(whole[:3]) is None
    assert end_of_message(whole) == len(whole)
    assert read_head(whole) == {"a": 1, "length": 5}
    with pytest.raises(BrokenWorkerError):
        end_of_message(bytearray(b"\xff\xff\xff\xff"))
    for nonsense in (b"[]", b"{", b"\xff"):
        with pytest.raises(BrokenWorkerError):
            read_head(bytearray(len(nonsense).to_bytes(4, "little") + nonsense))


def test_a_worker_cannot_shrink_the_shared_memory() -> None:
    """Memory cut off under the pool would kill it: the kernel refuses."""
    arena = Arena.create(1)
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, 0)
        with pytest.raises(ValueError, match="beyond"):
            arena.write([bytes(1024**2)] * 65)
    finally:
        arena.close()
