"""A whole rebuild at size: from originals alone to an activated generation, with what each part of it takes.

    python -m benchmarks.reindex_size --images 200000 --workers 1,2

Pictures of 64 to 96 pixels are made of a real collection, their originals go into the object store and their rows into the
catalog, by `ObjectStore.put` and `Catalog.put_images` as an ingest does, but without a vector. Then the command
that a RayJob runs, `python -m visualindex_jobs reindex --place own --activate`, rebuilds the index on a Ray cluster of this
machine: once for each number of workers, each an encoder of one thread with a decoder beside. Nothing serves meanwhile, so
this command makes the second step of the activation, for which a service waits until its shards have loaded the generation.

With `--bucket` the originals, the ledger and the generation are in a MinIO server (VISUALINDEX_MINIO), whose requests are
counted; else in a folder. Prints one JSON object for each rebuild.
"""

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import urllib3
import yaml
from tests.objectstore.conftest import MinioServer
from tests.reindexing.collection import NAME, number_id, resource_of
from tests.serving.pictures import fresh_database

from benchmarks.small_pictures import SmallPictures
from benchmarks.watching import MIB, Watch, until
from visualindex.capacity.choosing import choose_family
from visualindex.capacity.coefficients import DEFAULTS
from visualindex.capacity.formulas import build_memory, rows_of_largest
from visualindex.catalog import Catalog, EmbeddedPostgres, ImageWrite, migrate
from visualindex.credentials import ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE, Credentials
from visualindex.encoders import fingerprint_of
from visualindex.identity import content_digest
from visualindex.objectstore import ObjectStore, open_store, original_key
from visualindex.reindexing import patiently
from visualindex.spec import VisualIndex

_AT_ONCE = 1_000
_PATIENCE_S = 3600.0
"""Other work of the machine may stop this one for long."""
_DRIVERS = 20
_CLUSTER = """
import sys, ray
started = ray.init("local", num_cpus=int(sys.argv[1]), include_dashboard=False, object_store_memory=256 * 1024**2)
print("address:", started["gcs_address"], flush=True)
sys.stdin.read()
"""
_STAGES = (
    ("judging", "judging"),
    ("publishing", "publishing"),
    ("building", "building"),
    ("reading", "reading"),
)


@dataclass(frozen=True)
class Place:
    """Where everything of a run is."""

    root: Path
    dsn: str
    storage: Mapping[str, Any]
    access: Credentials

    @property
    def environment(self) -> dict[str, str]:
        """Of the driver, whose workers get it as well."""
        keys = {ACCESS_KEY_VARIABLE: self.access.access_key, SECRET_KEY_VARIABLE: self.access.secret_key}
        own = {"VISUALINDEX_POSTGRES_DSN": self.dsn, "VISUALINDEX_STATE_DIR": str(self.root)}
        return own | {name: value for name, value in keys.items() if value is not None}

    def store(self, resource: VisualIndex) -> ObjectStore:
        """The object store, opened."""
        return open_store(
            resource.spec.storage, default_folder=self.root / "objects", credentials=self.access
        )


def resource(arguments: argparse.Namespace, place: Place, workers: int) -> VisualIndex:
    """The index, and how it is rebuilt."""
    rebuilding = {
        "chunkImages": arguments.chunk,
        "batchSize": None,
        "workers": workers,
        "decodeWorkers": 1,
        "cpus": 1,
        "patienceSeconds": int(_PATIENCE_S),
        "gate": {"mode": "off"} if arguments.encoded else {"selfRetrieval": arguments.self_retrieval},
    }
    spec: dict[str, Any] = {"encoder": {"dimension": arguments.dimension}, "reindex": rebuilding}
    if arguments.patches:
        spec["rerank"] = {"mode": "always"}
    return resource_of(**spec, index={"shards": arguments.shards}, storage=dict(place.storage))


async def registered(index: VisualIndex, place: Place, images: int, fingerprint: str, make: "Make") -> int:
    """Store and register that many images, a thousand at a time; returns the bytes of their originals."""
    store = place.store(index)
    catalog = await Catalog.open(place.dsn, max_connections=2, application_name="reindex-size")
    total = 0
    try:
        await catalog.ensure_index(NAME, fingerprint, index.spec.encoder.dimension)
        for start in range(0, images, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, images))
            made = await asyncio.to_thread(make, numbers)
            async with asyncio.TaskGroup() as group:
                for write, file in made:
                    if file:
                        key = original_key(NAME, write.content_digest)
                        group.create_task(store.put(key, file, content_type="image/jpeg"))
            writes = [write for write, _ in made]
            await patiently(partial(catalog.put_images, NAME, writes), _PATIENCE_S)
            total += sum(len(file) for _, file in made)
    finally:
        await store.close()
        await catalog.close()
    return total


Make = Callable[[Sequence[int]], list[tuple[ImageWrite, bytes]]]
"""Rows of images by their numbers, each with its original."""


def originals(pictures: SmallPictures) -> Make:
    """Pictures without vectors."""

    def make(numbers: Sequence[int]) -> list[tuple[ImageWrite, bytes]]:
        files = [pictures.jpeg(number) for number in numbers]
        return [
            (_row(number, content_digest(file), len(file), pictures.category(number), {}), file)
            for number, file in zip(numbers, files, strict=True)
        ]

    return make


def encoded(fingerprint: str, dimension: int) -> Make:
    """Vectors without pictures: points of a curved sheet of sixteen dimensions, as pictures' vectors are of few."""
    directions = np.random.default_rng(0).normal(size=(16, dimension))

    def make(numbers: Sequence[int]) -> list[tuple[ImageWrite, bytes]]:
        points = np.random.default_rng(numbers[0]).normal(size=(len(numbers), 16))
        vectors = np.tanh(points @ directions / 4)
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return [
            (_row(n, content_digest(str(n).encode()), 0, f"c{n % 16}", {(0, fingerprint): vector}), b"")
            for n, vector in zip(numbers, vectors, strict=True)
        ]

    return make


def _row(
    number: int, digest: bytes, size: int, category: str, embeddings: Mapping[tuple[int, str], Any]
) -> ImageWrite:
    return ImageWrite(
        image_id=number_id(number),
        content_digest=digest,
        media_type="image/jpeg",
        width=96,
        height=96,
        size_bytes=size,
        embeddings=embeddings,
        key=str(number),
        category=category,
    )


def _forgotten(dsn: str) -> None:
    """As after an ingest by an encoder that is gone: no vector of the one that is wanted, no colours, no generation."""
    with _connection(dsn) as connection:
        for table in ("image_embeddings", "image_patches", "quarantine", "generations", "changes"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
        connection.execute("UPDATE images SET colours = NULL")
        for table in ("images", "image_embeddings", "image_patches", "changes"):
            connection.execute(f"VACUUM (FULL, ANALYZE) {table}")
        connection.execute("CHECKPOINT")


def _connection(dsn: str) -> Any:
    import psycopg

    return psycopg.connect(dsn, autocommit=True)


def asked(dsn: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of the catalog."""
    with _connection(dsn) as connection:
        return list(connection.execute(query, values).fetchall())


@contextmanager
def cluster(cpus: int) -> Iterator[dict[str, str]]:
    """A Ray cluster of this machine, and the variables that lead to it. Raises ConnectionError when it does not start."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = [sys.executable, "-c", _CLUSTER, str(cpus)]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
    }
    with subprocess.Popen(command, env={**os.environ, **token}, **pipes, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            address = next((line for line in process.stdout if line.startswith("address:")), None)
            if address is None:
                raise ConnectionError("the cluster did not start")
            yield {**token, "RAY_ADDRESS": address.split()[1]}
        finally:
            process.stdin.close()
            if not until(lambda: process.poll() is not None, _PATIENCE_S, every_s=0.5):
                started = psutil.Process(process.pid)
                for one in [*started.children(recursive=True), started]:
                    one.kill()


def driven(
    command: list[str], environment: Mapping[str, str], cpus: int, log: Path
) -> tuple[dict[str, Any], int]:
    """The job's result, and how many drivers it took: where one is lost, with its cluster or not, the next goes on.

    Without `cpus` there is no cluster.
    """
    for attempt in range(1, _DRIVERS + 1):
        try:
            with cluster(cpus) if cpus else nullcontext({}) as ray, log.open("ab") as stderr:
                run = subprocess.run(
                    command,
                    env={**os.environ, **environment, **ray},
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                    check=False,
                )
        except ConnectionError:
            continue
        told = [line for line in run.stdout.splitlines() if line.startswith("{")]
        if told and (result := json.loads(told[-1])["result"]):
            return result, attempt
    raise SystemExit(f"the rebuild does not come to an end:\n{log.read_text(errors='replace')[-4000:]}")


def role_of(postgres: int, process: psutil.Process, line: str) -> str | None:
    """Of the processes of this run, and of nothing else on the machine."""
    own = [os.getpid(), postgres]
    if not {process.pid, *(parent.pid for parent in process.parents())}.intersection(own):
        return None
    if "visualindex.imaging.worker" in line:
        return "decoders"
    if "ray::MapWorker" in line:
        return "workers"
    if "visualindex_jobs" in line and "--place" in line:
        return "driver"
    if process.pid == postgres or line.startswith("postgres"):
        return "postgres"
    if "minio" in line.split(" ")[0]:
        return "minio"
    return "ray" if "ray" in line else None


def rebuilt(
    arguments: argparse.Namespace, place: Place, postgres: int, workers: int, requests: "Requests"
) -> dict[str, Any]:
    """One rebuild in processes of its own, and what it took."""
    index = resource(arguments, place, workers)
    spec = place.root / f"spec-{workers}.yaml"
    spec.write_text(yaml.safe_dump(index.model_dump(mode="json", by_alias=True, exclude_defaults=True)))
    below = place.root / "objects" / "objects" / NAME
    folders = {
        "ledger": below / "jobs",
        "generations": below / "generations",
        "scratch": place.root / "cache" / "building",
        "gate's copy": place.root / "cache" / "generations",
    }
    before = _bytes_of(place.dsn)
    counted = requests.so_far()
    begun = time.time()
    command = [sys.executable, "-m", "visualindex_jobs", "reindex", "--spec", str(spec), "--place"]
    with Watch(partial(role_of, postgres), folders) as watch:
        log = place.root / f"driver-{workers}.log"
        where, cpus = ("here", 0) if arguments.encoded else ("own", workers + 2)
        result, drivers = driven([*command, where, "--activate"], place.environment, cpus, log)
    wall = time.time() - begun
    activated = asyncio.run(_activated(place.dsn, result["generation"])) if result["activating"] else False
    return {
        "images": arguments.images,
        "workers": workers,
        "drivers": drivers,
        "wall_s": round(wall, 1),
        "stages": _stages(place.dsn, arguments.images),
        "cpu_ms_per_image": _per_image(watch, arguments.images),
        "formula_mib": _formula(index, arguments.images),
        **watch.told(),
        "objects": _objects(place.dsn, arguments.images, arguments.chunk),
        "requests": requests.since(counted),
        "postgres_mib": {
            name: [round(before[name] / MIB, 1), round(now / MIB, 1)]
            for name, now in _bytes_of(place.dsn).items()
        },
        "generation": _generation(place.dsn, result["generation"]),
        "activated": activated,
        "result": result,
    }


async def _activated(dsn: str, generation: str) -> bool:
    catalog = await Catalog.open(dsn, max_connections=1, application_name="reindex-size")
    try:
        return await patiently(partial(catalog.activate_generation, NAME, generation), _PATIENCE_S)
    finally:
        await catalog.close()


def _stages(dsn: str, images: int) -> dict[str, dict[str, float]]:
    """Seconds and images a second of each stage, to two seconds: so often a job tells how far it is."""
    query = """SELECT extract(epoch FROM j.started_at), extract(epoch FROM j.ended_at),
            (SELECT extract(epoch FROM max(committed_at)) FROM job_chunks c WHERE c.job_id = j.job_id), j.job_id
        FROM jobs j ORDER BY requested_at DESC LIMIT 1"""
    started, ended, made, job = asked(dsn, query)[0]
    lines = asked(
        dsn,
        "SELECT extract(epoch FROM told_at), line FROM job_log WHERE job_id = %s ORDER BY seq",
        job,
    )
    # Where nothing lacked anything there is no plan.
    planned = next((told_at for told_at, line in lines if line.startswith("encoding")), started)
    made = made or planned
    seconds = {"planning": float(planned - started), "encoding": float(made - planned)}
    marks = [(float(made), "catching up")]
    for told_at, line in lines:
        stage = next((name for start, name in _STAGES if line.startswith(start)), None)
        if stage is not None and told_at > made:
            marks.append((float(told_at), stage))
    marks.append((float(ended), "ended"))
    for (begun, stage), (end, _) in pairwise(marks):
        seconds[stage] = seconds.get(stage, 0.0) + end - begun
    return {
        stage: {"s": round(s, 1), "images_per_s": round(images / s, 1) if s else 0.0}
        for stage, s in seconds.items()
    }


def _per_image(watch: Watch, images: int) -> dict[str, float]:
    each = {role: one.cpu_s / images * 1000 for role, one in sorted(watch.roles.items())}
    return {role: round(ms, 3) for role, ms in {**each, "all": sum(each.values())}.items()}


def _formula(index: VisualIndex, images: int) -> dict[str, float]:
    """What `visualindex plan` says that the build takes of the driver's memory."""
    rows = rows_of_largest(images, index.spec.index.shards)
    family = choose_family(index.spec.index, rows, index.spec.encoder.dimension)
    return {f"build ({family})": round(build_memory(index.spec, family, rows, DEFAULTS) / MIB, 1)}


def _objects(dsn: str, images: int, chunk: int) -> dict[str, int]:
    """How many objects the ledger had at its largest, against images."""
    chunks = asked(
        dsn,
        "SELECT count(*) FROM job_chunks WHERE job_id = (SELECT job_id FROM jobs ORDER BY requested_at DESC LIMIT 1)",
    )[0][0]
    return {"originals": images, "chunk_images": chunk, "chunks": chunks, "ledger": 2 * chunks + 1}


def _bytes_of(dsn: str) -> dict[str, int]:
    tables = ("images", "image_embeddings", "image_patches", "changes", "job_chunks")
    sizes = {
        name: int(asked(dsn, "SELECT pg_total_relation_size(%s::regclass)", name)[0][0]) for name in tables
    }
    wal = "SELECT pg_database_size(current_database()), pg_current_wal_lsn() - '0/0'::pg_lsn"
    database, written = asked(dsn, wal)[0]
    return {**sizes, "database": int(database), "written-ahead log": int(written)}


def _generation(dsn: str, name: str) -> dict[str, Any]:
    """What the catalog says of it."""
    query = "SELECT state, manifest, gate FROM generations WHERE generation = %s"
    state, manifest, gate = asked(dsn, query, name)[0]
    files = [file for shard in manifest["shards"] for file in shard["files"]]
    return {
        "name": name,
        "state": state,
        "mib": round(sum(file["bytes"] for file in files) / MIB, 1),
        "files": len(files),
        "recall": manifest["recall"]["recall"],
        "gate": gate and {name: gate[name] for name in ("verdict", "candidate", "failures", "seconds")},
    }


class Requests:
    """What a MinIO server was asked, by the name of the call; nothing where a folder is the store."""

    def __init__(self, server: MinioServer | None) -> None:
        self._server = server

    def so_far(self) -> dict[str, int]:
        """Since it started."""
        if self._server is None:
            return {}
        url = f"http://{self._server.endpoint}/minio/v2/metrics/cluster"
        text = urllib3.request("GET", url).data.decode()
        name = "minio_s3_requests_total{"
        found: dict[str, int] = {}
        for line in text.splitlines():
            if line.startswith(name):
                labels, _, value = line.removeprefix(name).rpartition("} ")
                call = dict(pair.split("=", 1) for pair in labels.split(","))["api"].strip('"')
                found[call] = found.get(call, 0) + int(float(value))
        return found

    def since(self, before: Mapping[str, int]) -> dict[str, int]:
        """Without those of before."""
        return {call: count - before.get(call, 0) for call, count in self.so_far().items()}


@contextmanager
def storage(root: Path, *, bucket: bool) -> Iterator[tuple[Mapping[str, Any], Credentials, Requests]]:
    """A bucket of a MinIO server, or the folder that an index has by default."""
    if not bucket:
        yield {}, Credentials(""), Requests(None)
        return
    data = root / "minio"
    data.mkdir()
    server = MinioServer(
        os.environ["VISUALINDEX_MINIO"], data, settings={"MINIO_PROMETHEUS_AUTH_TYPE": "public"}
    )
    server.start()
    try:
        spec = server.spec(server.new_bucket()).model_dump(mode="json", by_alias=True, exclude_defaults=True)
        yield {"s3": spec}, Credentials("", server.access_key, server.secret_key), Requests(server)
    finally:
        server.kill()


async def seeded(arguments: argparse.Namespace, place: Place) -> dict[str, Any]:
    """Make the index once for all rebuilds."""
    await migrate(place.dsn)
    pictures = await asyncio.to_thread(
        SmallPictures.of_collection, arguments.collection, arguments.pictures / arguments.collection
    )
    index = resource(arguments, place, 1)
    fingerprint = fingerprint_of(index.spec.encoder, place.root / "cache")
    begun = time.time()
    make = encoded(fingerprint, arguments.dimension) if arguments.encoded else originals(pictures)
    total = await registered(index, place, arguments.images, fingerprint, make)
    if not arguments.encoded:
        await asyncio.to_thread(_forgotten, place.dsn)
    return {"images": arguments.images, "bytes": total, "seeding_s": round(time.time() - begun, 1)}


def main() -> None:
    """Print each rebuild as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--workers", default="1,2", help="rebuild once with each of these numbers")
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--patches", action="store_true")
    parser.add_argument(
        "--encoded",
        action="store_true",
        help="images that have vectors and no originals: plan and build alone, at sizes where encoding takes too long",
    )
    parser.add_argument("--bucket", action="store_true", help="use a MinIO server, and count requests")
    parser.add_argument("--self-retrieval", type=float, default=0.5, help="what the gate asks for")
    parser.add_argument("--collection", default="stamps")
    parser.add_argument("--pictures", type=Path, default=Path(tempfile.gettempdir()) / "visualindex-pictures")
    parser.add_argument("--root", type=Path, help="where everything is put (default: the temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vi-", dir=arguments.root) as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "cache").mkdir()
        server = EmbeddedPostgres(root / "state")
        server.start()
        try:
            with (
                storage(root, bucket=arguments.bucket) as (where, access, requests),
                fresh_database(server) as dsn,
            ):
                place = Place(root, dsn, where, Credentials(dsn, access.access_key, access.secret_key))
                print(json.dumps(asyncio.run(seeded(arguments, place))), flush=True)
                for number, workers in enumerate(int(each) for each in arguments.workers.split(",")):
                    if number and not arguments.encoded:
                        _forgotten(dsn)
                    assert server.pid is not None
                    print(
                        json.dumps(rebuilt(arguments, place, server.pid, workers, requests), indent=2),
                        flush=True,
                    )
        finally:
            server.stop()


if __name__ == "__main__":
    main()
