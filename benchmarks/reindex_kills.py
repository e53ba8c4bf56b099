"""Kills a rebuild at random, drivers and the processes below them, and compares what comes of it with an undisturbed one.

    python -m benchmarks.reindex_kills --kills 30

Prints the digest of both generations' files, how many processes were killed, and how many chunks were encoded twice.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path

from tests.postgres import running_postgres
from tests.reindexing.collection import Collection
from tests.reindexing.killing import Killing, Moment, soon, under_way, while_building
from tests.serving.pictures import fresh_database

from visualindex.catalog import migrate

LONGEST_S = 8.0


def moments(things: Collection, rng: random.Random, kills: int) -> list[Moment]:
    """A fifth while it starts, most while chunks are made, a few while the generation is built."""
    building = kills // 8
    some = [
        soon(rng, LONGEST_S) if rng.random() < 0.2 else under_way(things, rng)
        for _ in range(kills - building)
    ]
    return [*some, *(while_building(things) for _ in range(building))]


async def run(dsn: str, root: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Both runs on one index."""
    await migrate(dsn)
    (root / "cached").mkdir()
    async with Collection(dsn, root, root / "cached") as things:
        await things.put(*range(arguments.images))
        await things.put(arguments.images, data=b"no picture at all")
        await things.forget()
        spec = {"reindex": {"chunkImages": arguments.chunk}}
        killing = Killing(things, rerank={"mode": "always"}, **spec)
        undisturbed = await killing.run()
        await things.forget()
        rng = random.Random(arguments.seed)
        begun = time.perf_counter()
        disturbed = await killing.run(*moments(things, rng, arguments.kills))
    assert undisturbed.ended is not None
    assert disturbed.ended is not None
    first, second = undisturbed.ended["result"], disturbed.ended["result"]
    return {
        "contents, undisturbed": first["contents"],
        "contents, killed": second["contents"],
        "equal": first["contents"] == second["contents"],
        "kills": disturbed.kills,
        "drivers begun": second["attempts"],
        "chunks": len(disturbed.begun),
        "chunks encoded twice": disturbed.repeated,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def main() -> None:
    """Print both runs' figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vi-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        with running_postgres(root / "state") as server, fresh_database(server) as dsn:
            print(json.dumps(asyncio.run(run(dsn, root, arguments)), indent=2))


if __name__ == "__main__":
    main()
