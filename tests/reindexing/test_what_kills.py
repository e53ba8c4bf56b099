"""A picture, or a chunk of them, that kills whatever takes it is tried a few times, and the rebuild comes to an end."""

import asyncio
import contextlib
import io
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from PIL import Image

from .collection import NAME, Collection, number_id
from .killing import Killing, Moment

_ROOM = 120 << 20
"""Bytes that a decoder may have resident: small pictures take half of it."""


@asynccontextmanager
async def no_room_for_decoders() -> AsyncIterator[list[int]]:
    """Decoders that grow are killed, as by a kernel that is out of memory; gives whom it killed so far."""
    killed: list[int] = []

    async def watch() -> None:
        while True:
            for decoder in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if (
                        decoder.memory_info().rss > _ROOM
                        and "visualindex.imaging.worker" in decoder.cmdline()
                    ):
                        decoder.kill()
                        killed.append(decoder.pid)
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    try:
        yield killed
    finally:
        watching.cancel()


def hungry() -> bytes:
    """A picture that is small until it is decoded."""
    data = io.BytesIO()
    Image.new("RGB", (7_000, 7_000)).save(data, "PNG", compress_level=1)
    return data.getvalue()


async def test_a_picture_that_kills_its_decoders_is_set_aside_and_the_others_are_made(
    things: Collection,
) -> None:
    await things.put(*range(10))
    await things.put(10, data=hungry())
    await things.forget()
    async with no_room_for_decoders() as killed:
        job = await things.reindex()
    assert (job.state, job.problem) == ("done", None)
    assert job.result is not None
    assert (job.result["images"], job.result["quarantined"]) == (10, 1)
    (aside,) = await things.catalog.quarantined(NAME)
    assert (aside.image_id, aside.reason) == (number_id(10), "invalid-image")
    assert "crashed the decoder (SIGKILL)" in aside.detail
    assert len(set(killed)) == 2, (
        "it was tried more than once, for a decoder may be killed for no fault of its picture"
    )


def whoever_begins(node: Path) -> Moment:
    """Kills every process of the node that begins a chunk, until the driver gives up."""

    async def moment(driver: psutil.Process) -> None:
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            for busy in await asyncio.to_thread(lambda: list(node.iterdir())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(busy.name.partition("-")[0]), signal.SIGKILL)
                busy.unlink(missing_ok=True)
            await asyncio.sleep(0.02)

    return moment


@pytest.mark.stack
@pytest.mark.timeout(600)
async def test_a_chunk_that_kills_every_process_ends_the_job_with_what_to_do(
    cluster: dict[str, str], things: Collection
) -> None:
    await things.put(*range(20))
    await things.forget()
    node = Path(cluster["VISUALINDEX_NOTICE_DIR"])
    spec = {"reindex": {"workers": 2, "decodeWorkers": 1, "cpus": 0.5, "attempts": 2}}
    told = await Killing(things, cluster, **spec).run(whoever_begins(node))
    assert told.ended is not None
    assert told.ended["state"] == "failed"
    assert "was lost again and again" in told.ended["problem"]
    assert "spec.reindex.chunkImages" in told.ended["problem"]
