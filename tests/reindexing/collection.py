"""What the area's tests set up: an index with originals but without vectors, and jobs that rebuild it."""

import uuid
from pathlib import Path
from typing import Any, Self

import numpy as np
from tests.serving.pictures import picture

from visualindex.building import Kept
from visualindex.catalog import REINDEX, Catalog, ImageWrite, JobRecord
from visualindex.encoders import backbone_of, fingerprint_of
from visualindex.encoders.patch_packing import load_packing
from visualindex.generations import NodeCache
from visualindex.identity import content_digest
from visualindex.objectstore import LocalObjectStore, original_key
from visualindex.spec import API_VERSION, KIND, VisualIndex
from visualindex_jobs.reindex import Surroundings, carry_out
from visualindex_jobs.reindex_here import Conveyor

NAME = "things"
SIZE = (64, 48)
LEASE_S = 30.0


def resource_of(**spec: Any) -> VisualIndex:
    reindex = {"chunkImages": 32, "batchSize": 8, **spec.pop("reindex", {})}
    document = {"encoder": {"dimension": 32}, **spec, "reindex": reindex}
    return VisualIndex.model_validate(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": NAME}, "spec": document}
    )


def number_id(number: int) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(number))


class Collection:
    """An index, its catalog and its store."""

    def __init__(self, dsn: str, root: Path, cache_dir: Path) -> None:
        self.dsn = dsn
        self.root = root
        self.cache_dir = cache_dir
        self.store = LocalObjectStore(root / "objects")
        self.catalog: Catalog
        self.fingerprint = fingerprint_of(resource_of().spec.encoder, cache_dir)

    async def __aenter__(self) -> Self:
        self.catalog = await Catalog.open(self.dsn, max_connections=4)
        await self.catalog.ensure_index(NAME, self.fingerprint, 32)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()
        await self.catalog.close()

    async def put(self, *numbers: int, data: bytes | None = None, vectors: bool = False) -> None:
        """Images whose originals are stored; without vectors, as another encoder's would be."""
        writes = []
        for number in numbers:
            original = data if data is not None else picture(number, SIZE)
            digest = content_digest(original)
            await self.store.put(original_key(NAME, digest), original, content_type="image/jpeg")
            vector = np.random.default_rng(number).normal(size=32).astype(np.float32)
            writes.append(
                ImageWrite(
                    image_id=number_id(number),
                    content_digest=digest,
                    media_type="image/jpeg",
                    width=SIZE[0],
                    height=SIZE[1],
                    size_bytes=len(original),
                    embeddings={(0, self.fingerprint): vector} if vectors else {},
                    metadata={"number": number},
                )
            )
        await self.catalog.put_images(NAME, writes)

    async def without_colours(self) -> None:
        """As a release left them that found none."""
        await self.execute("UPDATE images SET colours = NULL")

    async def forget(self) -> None:
        """As before the first rebuild: no vector, no colours, no patches."""
        await self.execute(
            "DELETE FROM image_embeddings", "DELETE FROM image_patches", "DELETE FROM quarantine"
        )
        await self.without_colours()

    async def execute(self, *statements: str) -> None:
        async def work(transaction: Any) -> None:
            for statement in statements:
                await transaction.connection.execute(statement)

        await self.catalog.connections.write(work)

    async def claimed(self, lease_s: float = LEASE_S, **parameters: Any) -> JobRecord:
        """A job that was asked for (unless one is open) and is now ours."""
        await self.catalog.request_job(NAME, REINDEX, {"attempts": 1000, **parameters})
        job = await self.catalog.claim_job(NAME, lease_s)
        assert job is not None
        return job

    async def let_lease_end(self, job: JobRecord) -> None:
        """As if the holder had been silent for long."""
        await self.execute(
            f"UPDATE jobs SET lease_until = now() - interval '1 s' WHERE job_id = '{job.job_id}'"
        )

    def around(self, catalog: Catalog | None = None, **spec: Any) -> Surroundings:
        resource = resource_of(**spec)
        kept = None
        if resource.spec.rerank.kept:
            backbone = backbone_of(resource.spec.encoder, self.cache_dir)
            packing = load_packing(resource.spec.rerank, backbone, cache_dir=self.cache_dir)
            assert packing is not None
            kept = Kept(packing.fingerprint, NodeCache(self.root / "generations", 1 << 30))
        scratch = self.root / "building" / uuid.uuid4().hex
        return Surroundings(
            catalog or self.catalog, self.store, resource, self.cache_dir, scratch, patches=kept
        )

    async def reindex(
        self, conveyor: Conveyor | None = None, activate: bool = False, **spec: Any
    ) -> JobRecord:
        """A job from request to end."""
        job = await self.claimed(activate=activate)
        await carry_out(self.around(**spec), job, conveyor)
        return await self.catalog.get_job(NAME, job.job_id)

    async def vectors(self) -> dict[uuid.UUID, bytes]:
        """What is stored, by image."""

        async def work(connection: Any) -> dict[uuid.UUID, bytes]:
            query = "SELECT image_id, vector FROM image_embeddings WHERE fingerprint = %s"
            cursor = await connection.execute(query, (self.fingerprint,))
            return {image_id: bytes(vector) for image_id, vector in await cursor.fetchall()}

        return await self.catalog.connections.read(work)
