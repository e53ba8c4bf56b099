"""The two files of an index: `ann.faiss` as Faiss writes it, and `ann.json`, which says what must be in it.

Faiss trusts what it reads: a flipped bit in a link makes it read foreign memory. So nothing is handed to it whose size and
checksum are not those that were written.
"""

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import orjson
import xxhash
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visualindex.ann.codes import Codes
from visualindex.ann.families.base import Effort, Parameters
from visualindex.mapped_files import damaged
from visualindex.spec.models import HnswSpec

_faiss: Any = faiss  # its stubs do not know all forms of its functions

INDEX, HEADER = "ann.faiss", "ann.json"
FORMAT = 1
_PIECE = 1 << 24
_READING = threading.Lock()
"""Faiss has one limit for all threads."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Effort(_Strict):
    ef_search: int | None = Field(ge=1)
    nprobe: int | None = Field(ge=1)
    rescore: int = Field(ge=1)


class _Parameters(_Strict):
    m: int = Field(ge=2, le=1024)
    ef_construction: int = Field(ge=1)
    lists: int | None = Field(ge=1)
    seed: int


class Header(_Strict):
    """`ann.json`."""

    format: int = Field(ge=1, le=FORMAT)
    family: str
    rows: int = Field(ge=0)
    dimension: int = Field(ge=1)
    bytes: int = Field(ge=0)
    checksum: str
    """XXH3-128 of `ann.faiss`, in hexadecimal."""
    parameters: _Parameters
    effort: _Effort | None


@dataclass(frozen=True)
class Opened:
    """What the files hold."""

    family: str
    index: Any
    parameters: Parameters
    effort: Effort | None


def write(
    directory: Path,
    family: str,
    codes: Codes,
    index: Any,
    parameters: Parameters,
    effort: Effort | None,
    flags: int = 0,
) -> None:
    """Write both files, the header last."""
    path = directory / INDEX
    _faiss.write_index(index, str(path), flags)
    header = Header(
        format=FORMAT,
        family=family,
        rows=len(codes),
        dimension=codes.shape[1] // 2,
        bytes=path.stat().st_size,
        checksum=_checksum(path),
        parameters=_Parameters(
            m=parameters.hnsw.m,
            ef_construction=parameters.hnsw.ef_construction,
            lists=parameters.lists,
            seed=parameters.seed,
        ),
        effort=_Effort(**asdict(effort)) if effort else None,
    )
    (directory / HEADER).write_bytes(orjson.dumps(header.model_dump(), option=orjson.OPT_SORT_KEYS))


def read(directory: Path, codes: Codes, classes: Mapping[str, str], *, verified: bool) -> Opened | None:
    """Both files, memory-mapped; None when there is no header.

    `classes`: what Faiss calls the index of each family.
    `verified`: whoever calls has just compared the files with their checksums, which takes a pass over them.
    Raises `ProblemError(INTERNAL)` naming the file that is not what it must be.
    """
    path = directory / HEADER
    if not path.exists():
        return None
    header = _header(path)
    for name, ours, theirs in (
        ("rows", header.rows, len(codes)),
        ("dimensions", header.dimension, codes.shape[1] // 2),
    ):
        if ours != theirs:
            raise damaged(path, f"it speaks of {ours} {name}, the vectors have {theirs}")
    if header.family not in classes:
        raise damaged(path, f"its family {header.family} is none of {', '.join(classes)}")
    index = _index(directory / INDEX, header, verified)
    if type(index).__name__ != classes[header.family]:
        raise damaged(directory / INDEX, f"it holds {type(index).__name__}, which is not {header.family}")
    return Opened(header.family, index, _parameters(header), _effort(header))


def _header(path: Path) -> Header:
    try:
        return Header.model_validate(orjson.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        newer = "; a later release wrote it" if place == "format" else ""
        raise damaged(path, f"{place or 'the document'}: {first['msg']}{newer}") from error
    except (ValueError, OSError) as error:
        raise damaged(path, f"it is no JSON ({error})") from error


def _index(path: Path, header: Header, verified: bool) -> Any:
    size = path.stat().st_size if path.exists() else None
    if size != header.bytes:
        raise damaged(path, "it is missing" if size is None else f"it has {size} bytes of {header.bytes}")
    if not verified and _checksum(path) != header.checksum:
        raise damaged(path, "its content does not have the checksum that was written with it")
    try:
        index = _read_bounded(path, size)
    except (RuntimeError, MemoryError) as error:
        raise damaged(path, f"Faiss cannot read it ({str(error).splitlines()[0]})") from error
    for name, ours, theirs in (
        ("rows", index.ntotal, header.rows),
        ("dimensions", index.d, header.dimension),
    ):
        if ours != theirs:
            raise damaged(path, f"it has {ours} {name} instead of {theirs}")
    return index


def _read_bounded(path: Path, size: int) -> Any:
    """Faiss makes room for as much as a file claims to hold: here for no more than there are bytes in it."""
    with _READING:
        usual = _faiss.get_deserialization_vector_byte_limit()
        _faiss.set_deserialization_vector_byte_limit(max(size, _PIECE))
        try:
            return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        finally:
            _faiss.set_deserialization_vector_byte_limit(usual)


def _checksum(path: Path) -> str:
    checksum = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            checksum.update(piece)
    return checksum.hexdigest()


def _parameters(header: Header) -> Parameters:
    built = header.parameters
    hnsw = HnswSpec.model_construct(m=built.m, ef_construction=built.ef_construction)
    return Parameters(hnsw, built.lists, built.seed)


def _effort(header: Header) -> Effort | None:
    return Effort(**header.effort.model_dump()) if header.effort else None
