"""The samples of a WebDataset archive: a tar in which files of one base name, one behind the other, belong together.

Format: https://github.com/webdataset/webdataset, the part of a name behind its first dot is what the file is to the sample.
"""

import asyncio
import itertools
import json
import os
import tarfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from visualindex.api.images import ImageFields
from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.entries import Entry, Refusal, Step
from visualindex.ingesting.in_parts import in_parts
from visualindex.ingesting.manifest_rows import text
from visualindex.ingesting.naming import PICTURES
from visualindex.ingesting.source_objects import refusal_of
from visualindex.objectstore.sources import Content, check_size

_AT_ONCE = 100
_NAMED = 5
_SIDECARS = frozenset({"json", "txt", "cls"})


class WebDatasetSource:
    """The samples of an uncompressed tar; the cursor is the number of the last picture, or sample without one.

    A sidecar `json` gives the metadata (its `key`, `category` and `url` are the image's own), `txt` the metadata `text`,
    `cls` the category.
    """

    total = 0

    def __init__(self, path: Path, name: str, most: int, sidecar_bytes: int) -> None:
        """`path` is a copy of the archive, which messages call `name`; sidecars have at most `sidecar_bytes`."""
        self._path = path
        self._name = name
        self._most = most
        self._sidecar_bytes = sidecar_bytes

    async def steps(self, after: str) -> AsyncIterator[Step]:
        """The entries behind a sample."""
        done = int(after or 0)
        entries = (entry for sample in self._samples() for entry in self._entries(sample))
        numbered = enumerate(entries, start=1)
        async for number, entry in in_parts(numbered, _AT_ONCE):
            if number > done:
                yield Step(entry, str(number))

    def _samples(self) -> Iterator[list[tarfile.TarInfo]]:
        try:
            with tarfile.open(self._path, "r:") as archive:
                files = (member for member in archive if member.isreg())
                for _, members in itertools.groupby(files, key=lambda member: _split(member.name)[0]):
                    yield list(members)
        except tarfile.TarError as error:
            detail = f"{self._name} is no uncompressed tar, or is cut off: {error}"
            raise ProblemError(ProblemType.INVALID_REQUEST, detail) from error

    def _entries(self, sample: list[tarfile.TarInfo]) -> Iterator[Entry | Refusal]:
        pictures = [member for member in sample if PurePosixPath(member.name).suffix.lower() in PICTURES]
        if not pictures:
            yield self._without_picture(sample)
        for member in pictures:
            base = _split(member.name)[0]
            key = base if len(pictures) == 1 else member.name
            place = f"{self._name}:{member.name}"
            try:
                fields = self._fields(key, sample)
            except ValidationError as error:
                yield refusal_of(place, key, error)
            except ProblemError as problem:
                yield Refusal(place, key, problem)
            else:
                yield Entry(place, fields, partial(asyncio.to_thread, self._read, member))

    def _without_picture(self, sample: list[tarfile.TarInfo]) -> Refusal:
        base = _split(sample[0].name)[0]
        names = ", ".join(PurePosixPath(member.name).name for member in sample[:_NAMED])
        why = f"has no picture, but {names}: the files of a sample have one base name and lie one behind the other"
        return Refusal(f"{self._name}:{base}", base, _invalid(f"sample {base}", why))

    def _fields(self, key: str, sample: list[tarfile.TarInfo]) -> ImageFields:
        sidecars = {_split(m.name)[1]: m for m in sample if _split(m.name)[1] in _SIDECARS}
        metadata: dict[str, Any] = {}
        if "json" in sidecars:
            metadata = self._json(sidecars["json"])
        if "txt" in sidecars:
            metadata["text"] = self._text(sidecars["txt"])
        category = self._text(sidecars["cls"]) if "cls" in sidecars else text(metadata.pop("category", None))
        return ImageFields(
            key=text(metadata.pop("key", None)) or key,
            category=category,
            url=text(metadata.pop("url", None)),
            metadata=metadata,
        )

    def _json(self, member: tarfile.TarInfo) -> dict[str, Any]:
        try:
            document = json.loads(self._text(member))
        except ValueError as error:
            raise _invalid(member.name, f"is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise _invalid(member.name, "is not a JSON object")
        return document

    def _text(self, member: tarfile.TarInfo) -> str:
        if member.size > self._sidecar_bytes:
            raise _invalid(member.name, f"has more than {self._sidecar_bytes} bytes")
        try:
            return self._bytes(member).decode().strip()
        except UnicodeDecodeError as error:
            raise _invalid(member.name, "is not UTF-8") from error

    def _read(self, member: tarfile.TarInfo) -> Content:
        check_size(member.name, member.size, self._most)
        return Content(self._bytes(member), "")

    def _bytes(self, member: tarfile.TarInfo) -> bytes:
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), member.size, member.offset_data)


def _split(name: str) -> tuple[str, str]:
    """The base name of a member's sample, and what the member is to it."""
    folder, _, file = name.rpartition("/")
    base, _, ending = file.partition(".")
    return f"{folder}/{base}" if folder else base, ending.lower()


def _invalid(name: str, why: str) -> ProblemError:
    return ProblemError(ProblemType.INVALID_REQUEST, f"{name} {why}")
