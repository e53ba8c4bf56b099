"""Multipart bodies, read whole into memory: what is allowed in is bounded before, and a picture is needed whole anyway."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from visualindex.errors import ProblemError, ProblemType

_FIELD_BYTES = 1024 * 1024
_MAX_PARTS = 2048


@dataclass(frozen=True)
class Upload:
    """A file out of a multipart body."""

    data: bytes
    filename: str | None


@dataclass(frozen=True)
class Form:
    """A multipart form: plain fields and uploads, in order, by name; `size` is that of the whole body in bytes."""

    fields: list[tuple[str, str]]
    files: list[tuple[str, Upload]]
    size: int

    def uploads(self, part: str) -> list[Upload]:
        """The uploads of that name."""
        return [upload for name, upload in self.files if name == part]


def malformed(detail: str) -> ProblemError:
    """The problem of a body that cannot be parsed."""
    return ProblemError(ProblemType.MALFORMED_BODY, detail)


async def read_multipart(content_type: str, stream: AsyncIterator[bytes]) -> Form:
    """The form whose body `stream` yields. Raises ProblemError MALFORMED_BODY when it cannot be parsed."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise malformed("The multipart body cannot be parsed: its Content-Type names no boundary.")
    parts = _Parts()
    size = 0
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        async for chunk in stream:
            size += len(chunk)
            parser.write(chunk)
    except FormParserError as exc:
        raise malformed(f"The multipart body cannot be parsed: {exc}.") from exc
    if not parts.ended:
        raise malformed("The multipart body cannot be parsed: it ends before its last boundary.")
    return Form(parts.fields, parts.files, size)


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    name: str = ""
    filename: str | None = None
    file: bool = False


class _Parts:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, Upload]] = []
        self.ended = False
        self._part = _Part()
        self._header = b""
        self._value = b""

    def callbacks(self) -> dict[str, object]:
        """The parser's events and who takes them."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._opened,
            "on_part_data": self._data,
            "on_part_end": self._close,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.fields) + len(self.files) >= _MAX_PARTS:
            raise malformed(f"The form has more than {_MAX_PARTS} parts.")
        self._part = _Part()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._part.headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _opened(self) -> None:
        part = self._part
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise malformed("A part of the form has no name in its Content-Disposition.")
        part.name = _text(options[b"name"], "name of a part")
        filename = options.get(b"filename")
        part.filename = None if filename is None else _text(filename, f"file name of part {part.name}")
        media = part.headers.get(b"content-type", b"")
        part.file = filename is not None or media.startswith((b"image/", b"application/octet-stream"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.size += end - start
        if not part.file and part.size > _FIELD_BYTES:
            raise malformed(f"The form's field {part.name} is larger than {_FIELD_BYTES} bytes.")
        part.chunks.append(data[start:end])

    def _close(self) -> None:
        part = self._part
        data = part.chunks[0] if len(part.chunks) == 1 else b"".join(part.chunks)
        if part.file:
            self.files.append((part.name, Upload(data, part.filename)))
        else:
            self.fields.append((part.name, _text(data, f"field {part.name}")))

    def _end(self) -> None:
        self.ended = True


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise malformed(f"The form's {what} is not UTF-8.") from exc
