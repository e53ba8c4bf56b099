"""A search that waited for a thread beyond its deadline is not carried out: nobody waits for its answer."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from visualindex.catalog import EmbeddedPostgres
from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.messages import ShardQuery

from .generated import found, generated, image_id, vector


async def test_what_waited_for_a_thread_beyond_its_deadline_is_not_carried_out(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with generated(postgres, tmp_path) as things:
        await things.put(range(20))
        async with things.replica() as replica:
            threads, go_on = replica._threads, Event()
            assert isinstance(threads, ThreadPoolExecutor)
            busy = [threads.submit(go_on.wait) for _ in range(threads._max_workers)]
            view = replica._views["live"]
            took = [pace._usual_ms for pace in view.paces.values()]
            deadline = time.time() + 2
            late = [
                asyncio.create_task(replica.search(ShardQuery(vector(n)[None], 1, None, (), deadline)))
                for n in range(5)
            ]
            await asyncio.sleep(max(0.0, deadline - time.time()) + 0.01)
            go_on.set()
            answers = await asyncio.gather(*late, return_exceptions=True)
            problems = [one for one in answers if isinstance(one, ProblemError)]
            assert [one.type for one in problems] == [ProblemType.DEADLINE_EXCEEDED] * 5
            assert "waiting for a thread of shard 0" in problems[0].detail
            assert [pace._usual_ms for pace in view.paces.values()] == took
            assert await found(replica, 7) == [image_id(7)]
            assert all(one.done() for one in busy)
