"""Chunks made by processes of a Ray cluster: the same generation, however many there are and whichever is lost."""

import pytest

from .collection import Collection
from .killing import Killing, after_chunks, some_ray_worker

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


async def test_processes_of_ray_give_the_same_generation_although_some_are_killed(
    cluster: dict[str, str], things: Collection
) -> None:
    await things.put(*range(250))
    await things.put(250, data=b"no picture at all")
    await things.forget()
    alone = (await Killing(things).run()).ended
    assert alone is not None
    await things.forget()
    two = {"reindex": {"workers": 2, "decodeWorkers": 1, "cpus": 0.5, "chunkImages": 16}}
    told = await Killing(things, cluster, **two).run(some_ray_worker(things, 2), after_chunks(things, 5))
    assert told.ended is not None
    assert (told.ended["state"], told.ended["problem"], told.kills) == ("done", None, 2)
    assert told.ended["result"]["contents"] == alone["result"]["contents"]
    assert told.ended["result"]["quarantined"] == 1


async def test_pixels_may_travel_from_decoders_to_encoders(
    cluster: dict[str, str], things: Collection
) -> None:
    await things.put(*range(100))
    await things.forget()
    alone = (await Killing(things).run()).ended
    assert alone is not None
    await things.forget()
    apart = {"reindex": {"decoders": 1, "decodeWorkers": 1, "cpus": 0.5}}
    told = await Killing(things, cluster, **apart).run()
    assert told.ended is not None
    assert told.ended["result"]["contents"] == alone["result"]["contents"]
    assert told.ended["result"]["bytes_read"] == alone["result"]["bytes_read"]
