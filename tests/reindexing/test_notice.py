"""Machines that are taken away give notice: what is under way is ended, the rest given back, and nothing is half done."""

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest

from .collection import NAME, Collection
from .killing import Killing, Moment, committed_at_least, makers, until, while_building

GENEROUS_S = 120


def noticed(things: Collection, chunks: int) -> Moment:
    """Gives the driver notice once so many chunks are in the catalog, and waits for its end."""

    async def moment(driver: psutil.Process) -> None:
        await until(lambda: committed_at_least(things, chunks))
        driver.terminate()
        await until(lambda: asyncio.to_thread(lambda: not driver.is_running() or driver.status() == "zombie"))

    return moment


def noticed_while_building(things: Collection) -> Moment:
    """The same while it builds the generation."""

    async def moment(driver: psutil.Process) -> None:
        class Noticed:
            def kill(self) -> None:
                driver.terminate()

        await while_building(things)(Noticed())  # type: ignore[arg-type]

    return moment


@pytest.mark.timeout(600)
async def test_a_driver_that_is_given_notice_gives_its_job_back(things: Collection) -> None:
    await things.put(*range(150))
    await things.forget()
    killing = Killing(things)
    undisturbed = (await killing.run()).ended
    await things.forget()
    told = await killing.run(noticed(things, 1), noticed(things, 3), noticed_while_building(things))
    assert undisturbed is not None
    assert told.ended is not None
    assert (told.given_back, told.kills) == (3, 3)
    assert (told.ended["state"], told.ended["problem"]) == ("done", None)
    assert told.ended["result"]["contents"] == undisturbed["result"]["contents"]
    assert told.ended["result"]["encoded"] == 150
    assert told.repeated <= 2, "more than the chunk that was being encoded at each notice"
    lines = [
        line.line
        for job in await things.catalog.list_jobs(NAME)
        for line in await things.catalog.job_log(NAME, job.job_id)
    ]
    assert lines.count("given back: its process is to end") == 3


async def give_notice(folder: Path, within_s: float) -> int:
    """As the `preStop` hook of a pod."""
    command = [sys.executable, "-m", "visualindex_jobs.notice", "--within", str(within_s)]
    environment = {**os.environ, "VISUALINDEX_NOTICE_DIR": str(folder)}
    return await (await asyncio.create_subprocess_exec(*command, env=environment)).wait()


@pytest.mark.stack
@pytest.mark.timeout(900)
async def test_workers_on_a_node_that_goes_end_their_chunk_and_begin_no_other(
    cluster: dict[str, str], things: Collection
) -> None:
    await things.put(*range(250))
    await things.forget()
    alone = (await Killing(things).run()).ended
    await things.forget()
    node = Path(cluster["VISUALINDEX_NOTICE_DIR"])

    def made() -> int:
        return len(list((things.root / "objects").rglob("done/*/*.arrow")))

    async def taken_away(_: psutil.Process) -> None:
        await until(lambda: committed_at_least(things, 2))
        assert await give_notice(node, GENEROUS_S) == 0
        assert os.listdir(node) == ["leaving"], "nobody is at work any more"
        before = made()
        await asyncio.sleep(2)  # nothing may happen, which no condition tells
        assert made() == before
        for maker in makers():
            maker.kill()
        (node / "leaving").unlink()  # what begins anew is on another node

    two = {"reindex": {"workers": 2, "decodeWorkers": 1, "cpus": 0.5, "chunkImages": 16}}
    told = await Killing(things, cluster, **two).run(taken_away)
    assert alone is not None
    assert told.ended is not None
    assert (told.ended["state"], told.ended["problem"], told.kills) == ("done", None, 1)
    assert told.ended["result"]["contents"] == alone["result"]["contents"]
    assert told.ended["result"]["encoded"] == 250


async def test_a_notice_does_not_wait_for_ever_nor_for_the_dead(tmp_path: Path) -> None:
    busy = tmp_path / f"{os.getpid()}-1"
    busy.touch()
    assert await give_notice(tmp_path, 0.5) == 1
    busy.rename(tmp_path / "4194399-1")  # beyond the largest process id
    assert await give_notice(tmp_path, GENEROUS_S) == 0
