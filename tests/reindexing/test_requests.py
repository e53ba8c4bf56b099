"""What a rebuild asks of the object store is what its plan says."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from visualindex.capacity.coefficients import DEFAULTS
from visualindex.capacity.rebuilding import rebuild
from visualindex.objectstore import LocalObjectStore, jobs_prefix, original_key
from visualindex_jobs.reindex import carry_out

from .collection import NAME, Collection

IMAGES = 50
_ORIGINALS = original_key(NAME, bytes(32)).split("/")[1]


class Counted(LocalObjectStore):
    """Notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked = Counter[tuple[str, str]]()

    async def get(self, key: str) -> bytes:
        self.asked["get", key] += 1
        return await super().get(key)

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        self.asked["put", key] += 1
        await super().put(key, data, content_type=content_type)

    def count(self, call: str) -> int:
        """Of originals and of the ledger."""
        own = f"{NAME}/{_ORIGINALS}/", jobs_prefix(NAME)
        return sum(times for (name, key), times in self.asked.items() if name == call and key.startswith(own))


async def test_each_original_is_read_once_and_each_chunk_is_two_objects(things: Collection) -> None:
    await things.put(*range(IMAGES))
    store = Counted(things.root / "objects")
    around = replace(things.around(reindex={"gate": {"mode": "off"}}), store=store)
    await carry_out(around, await things.claimed())
    await store.close()
    planned = rebuild(around.resource.spec, IMAGES, DEFAULTS)
    assert (store.count("get"), store.count("put")) == (planned.gets, planned.puts)
