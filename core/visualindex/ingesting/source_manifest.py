"""The pictures that a manifest names: objects beside it, or addresses."""

import asyncio
import csv
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from visualindex.api.images import ImageFields
from visualindex.errors import ProblemError, ProblemType
from visualindex.fetching import SafeFetcher
from visualindex.ingesting.entries import Entry, Refusal, Step
from visualindex.ingesting.in_parts import in_parts
from visualindex.ingesting.manifest_rows import COLUMNS, Rows, nested, picture_of, plain, text
from visualindex.ingesting.places import Located
from visualindex.ingesting.source_objects import refusal_of
from visualindex.objectstore.sources import Content

_AT_ONCE = 500


class ManifestSource:
    """The rows of a manifest; the cursor is the number of the last row."""

    def __init__(
        self,
        located: Located,
        name: str,
        rows: Callable[[], Rows],
        fetcher: SafeFetcher,
        most: int,
        timeout_s: float,
        total: int = 0,
    ) -> None:
        """`located` is the manifest itself; `rows` reads the copy of it that was made, which messages call `name`."""
        self._located = located
        self._name = name
        self._rows = rows
        self._fetcher = fetcher
        self._most = most
        self._timeout_s = timeout_s
        self.total = total

    async def steps(self, after: str) -> AsyncIterator[Step]:
        """The entries behind a row."""
        done = int(after or 0)
        numbered = enumerate(self._read_rows(), start=1)
        async for number, (place, row) in in_parts(numbered, _AT_ONCE):
            if number > done:
                yield Step(self._entry(f"{self._name}{place}", row), str(number))

    def _read_rows(self) -> Rows:
        try:
            yield from self._rows()
        except (ValueError, csv.Error) as error:
            raise unreadable(self._name, error) from error

    def _entry(self, place: str, row: Any) -> Entry | Refusal:
        if not isinstance(row, dict):
            return _refused(place, None, str(row))
        row = {name: value for name, value in row.items() if value is not None and value != ""}
        inner = nested(row)
        if inner is None:
            return _refused(place, text(row.get("key")), "`metadata` is not a JSON object")
        try:
            key, address = picture_of(row)
        except ValueError as error:
            return _refused(place, None, str(error))
        metadata = {**{name: value for name, value in row.items() if name not in COLUMNS}, **inner}
        try:
            fields = ImageFields(
                key=str(row.get("key") or key or address),
                category=text(row.get("category")),
                url=text(row.get("url")),
                metadata=plain(metadata),
            )
        except ValidationError as error:
            return refusal_of(place, text(row.get("key")), error)
        if key is None:
            return Entry(place, fields, partial(self._fetch, str(address)))
        return self._of_object(place, fields, key)

    def _of_object(self, place: str, fields: ImageFields, key: str) -> Entry | Refusal:
        """A key of the manifest's bucket, or a path from the manifest's folder."""
        if self._located.bucket is None:
            key = (Path(self._located.key).parent / key).as_posix()
        if self._located.own(key):
            return _refused(place, fields.key, f"object {key} is one that the service itself stores")
        return Entry(place, fields, partial(self._located.objects.get, key, self._most))

    async def _fetch(self, address: str) -> Content:
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        return Content((await self._fetcher.fetch(address, deadline=deadline)).data, "")


def unreadable(name: str, error: Exception) -> ProblemError:
    """The problem of a manifest that breaks the rules of its format."""
    return ProblemError(ProblemType.INVALID_REQUEST, f"manifest {name} cannot be read: {error}")


def _refused(place: str, key: str | None, why: str) -> Refusal:
    return Refusal(place, key, ProblemError(ProblemType.INVALID_REQUEST, why))
