"""Many processes on one small cache, some of them killed: never wrong bytes, never more than the limit, nothing left."""

import asyncio
import random
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.generations.conftest import PART, Shards, noise

from visualindex.generations import NodeCache
from visualindex.objectstore import LocalObjectStore

_USER = textwrap.dedent(
    """
    import asyncio, fcntl, os, random, sys
    from pathlib import Path
    from visualindex.errors import ProblemError, ProblemType
    from visualindex.generations import NodeCache, read_manifest
    from visualindex.objectstore import LocalObjectStore

    def room(root):
        "Bytes in the cache, while nobody takes room in it."
        found = {}
        guard = os.open(root / ".guard", os.O_RDWR)
        fcntl.flock(guard, fcntl.LOCK_EX)
        for folder, _, names in os.walk(root):
            for name in names:
                try:
                    status = os.stat(os.path.join(folder, name))
                except FileNotFoundError:
                    continue
                found[status.st_ino] = status.st_size
        os.close(guard)
        return sum(found.values())

    async def main():
        folder, generation, limit, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        store, chance = LocalObjectStore(folder / "store"), random.Random(seed)
        manifest = await read_manifest(store, "shop", generation)
        cache, leases = NodeCache(folder / "cache", limit), []
        for _ in range(25):
            shard = chance.randrange(len(manifest.shards))
            try:
                lease = await cache.fetch(store, "shop", manifest, shard)
            except ProblemError as problem:
                assert problem.type is ProblemType.STORAGE_FULL, problem
            else:
                leases.append((lease, shard))
            for held, number in leases:
                for path in held.directory.iterdir():
                    assert path.read_bytes() == (folder / "built" / str(number) / path.name).read_bytes()
            assert room(folder / "cache") <= limit, room(folder / "cache")
            while len(leases) > chance.randrange(3):
                leases.pop(0)[0].release()
            print("round", flush=True)
        print("done", flush=True)

    asyncio.run(main())
    """
)


async def test_many_users_of_a_small_cache(store: LocalObjectStore, tmp_path: Path) -> None:
    """Six at once, every other one killed at some point, on a cache with room for three of six shards."""
    shards = Shards(tmp_path / "built")
    for shard in range(6):
        shards.write(shard, "vectors.f16", noise(9 * PART, shard))
        shards.write(shard, "ids.bin", noise(PART, 100 + shard))
        shards.write(shard, "same.bin", noise(500, 7))
    manifest = await shards.publish(store)
    limit = 3 * (10 * PART + 500)
    chance = random.Random(1)

    async def use(seed: int) -> None:
        command = [sys.executable, "-c", _USER, str(tmp_path), manifest.generation, str(limit), str(seed)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            if seed % 2:
                for _ in range(chance.randrange(1, 20)):
                    await process.stdout.readline()
            else:
                out, errors = await process.communicate()
                assert errors.decode().strip().splitlines()[-12:] == []
                assert out.endswith(b"done\n")
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    await asyncio.gather(*(use(seed) for seed in range(6)))
    cache = NodeCache(tmp_path / "cache", limit)
    for shard in range(6):
        (await cache.fetch(store, "shop", manifest, shard)).release()
    assert list((tmp_path / "cache" / "leases").iterdir()) == []
    assert list((tmp_path / "cache" / "partial").iterdir()) == []
