"""Erasing an index for good: its objects first, then its rows, so that a run that was interrupted can be repeated."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visualindex.errors import ProblemError, ProblemType

if TYPE_CHECKING:
    from visualindex.catalog import Catalog
    from visualindex.objectstore import ObjectStore
    from visualindex.spec.models import StorageSpec

_BATCH_S = 120.0  # one batch is far quicker, on a database that is not in trouble


@dataclass(frozen=True)
class Outcome:
    """What was erased, by name of the part, and what is left of it: nothing, unless time ran out."""

    erased: dict[str, int]
    left: list[str]


async def erase(
    dsn: str, storage: "StorageSpec", index: str, *, within_s: float | None, force: bool
) -> Outcome:
    """Erases the index. ProblemError INVALID_REQUEST while replicas serve it, unless `force`."""
    from visualindex.catalog import Catalog, has_schema, reach
    from visualindex.credentials import DSN_VARIABLE, from_environment
    from visualindex.objectstore import open_store

    ends_at = time.monotonic() + within_s if within_s is not None else float("inf")
    credentials = await from_environment({**os.environ, DSN_VARIABLE: dsn})
    await reach(dsn)
    catalog = (
        await Catalog.open(dsn, max_connections=1, timeout_s=_BATCH_S) if await has_schema(dsn) else None
    )
    try:
        if catalog and not force:
            await _refuse_served(catalog, index)
        store = open_store(storage, default_folder=Path(), credentials=credentials)
        try:
            return await _erase(store, catalog, index, ends_at)
        finally:
            await store.close()
    finally:
        if catalog:
            await catalog.close()


async def _erase(store: "ObjectStore", catalog: "Catalog | None", index: str, ends_at: float) -> Outcome:
    from visualindex.objectstore import erase_prefix, index_prefix

    def in_time() -> bool:
        return time.monotonic() < ends_at

    objects, no_more = await erase_prefix(store, index_prefix(index), in_time=in_time)
    left = [] if no_more else [f"objects under {index_prefix(index)}"]
    if catalog is None:
        return Outcome({"objects": objects}, left)
    rows = await catalog.erase_index(index, in_time=in_time)
    if not rows.finished:
        left += [f"{count} {part}" for part, count in (await catalog.count_rows(index)).items()]
    return Outcome({"objects": objects, **rows.rows}, left)


async def _refuse_served(catalog: "Catalog", index: str) -> None:
    leases = await catalog.count_leases(index)
    if leases:
        detail = (
            f"index {index} is being served: {leases} live replica leases. Stop its service, wait a minute for the leases "
            "to end, or say --force"
        )
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)


def storage_of(index: str, spec: Path | None, document: str | None) -> "StorageSpec":
    """Where the index's objects are: the storage section of its VisualIndex in a file, or that section itself as JSON.

    ProblemError INVALID_REQUEST when that is not said, or said wrongly.
    """
    storage = _from_spec(index, spec) if spec else _from_json(document or "{}")
    if storage.s3 is None and storage.folder is None:
        detail = (
            f"it is not said where the objects of {index} are: name a document with storage.s3 or storage.folder by --spec, "
            "or that section by --storage-json"
        )
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)
    return storage


def _from_spec(index: str, path: Path) -> "StorageSpec":
    from visualindex.spec import load_specs

    found = {resource.name: resource for resource in load_specs([path])}
    if index not in found:
        detail = (
            f"{path} describes no index {index} (but {', '.join(found)}): name its file, or correct --index"
        )
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)
    return found[index].spec.storage


def _from_json(document: str) -> "StorageSpec":
    from pydantic import ValidationError

    from visualindex.spec.models import StorageSpec
    from visualindex.spec.problems import describe, dotted

    try:
        return StorageSpec.model_validate_json(document, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        wrong = [
            f"{dotted(item['loc'])} {describe(StorageSpec, item)}".strip()
            for item in error.errors(include_url=False)
        ]
        raise ProblemError(ProblemType.INVALID_REQUEST, f"--storage-json: {'; '.join(wrong)}") from None
