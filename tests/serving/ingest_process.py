"""A process that carries one ingest out and may be killed: `python ingest_process.py DOCUMENT`."""

import asyncio
import json
import os
import sys
from pathlib import Path

from visualindex.catalog import LEASE_S, Catalog
from visualindex.credentials import Credentials
from visualindex.objectstore import open_store
from visualindex.spec import VisualIndex
from visualindex_jobs.ingest import carry_out


async def run(resource: VisualIndex) -> None:
    access = Credentials(os.environ["VISUALINDEX_POSTGRES_DSN"])
    state = Path(os.environ["VISUALINDEX_STATE_DIR"])
    catalog = await Catalog.open(access.dsn, max_connections=2)
    store = open_store(resource.spec.storage, default_folder=state / "objects", credentials=access)
    try:
        job = await catalog.claim_job(resource.name, LEASE_S)
        assert job is not None
        await carry_out(catalog, store, resource, job, state / "cache", access=access)
    finally:
        await store.close()
        await catalog.close()


if __name__ == "__main__":
    asyncio.run(run(VisualIndex.model_validate(json.loads(sys.argv[1]))))
