"""Reading image headers without a decoder, so that limits are checked before any memory is spent on pixels.

Nothing here allocates in proportion to what a header claims: each reader walks bytes that are really there.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import ifd

Format = Literal["jpeg", "png", "webp", "gif", "tiff", "bmp"]
Buffer = bytes | bytearray

MAX_CHUNKS = 65_536
"""Most chunks of a PNG or WebP and most frames of a GIF or TIFF that are walked; real files stay far below."""

MAX_SCANS = 128
"""Most scans of a JPEG. Progressive encoders write about ten; each one costs a pass over the whole image."""

_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_PROGRESSIVE = {0xC2, 0xCA}
_JPEG_FRAMES = {0xC0, 0xC1, 0xC9} | _JPEG_PROGRESSIVE
_JPEG_LOSSLESS_OR_HIERARCHICAL = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}


@dataclass(frozen=True)
class ImageInfo:
    """What the header says. `width` x `height` are the stored pixels, before `orientation` (EXIF 1 to 8)."""

    format: Format
    width: int
    height: int
    frames: int = 1
    orientation: int = 1

    @property
    def media_type(self) -> str:
        """The IANA media type, e.g. `image/jpeg`."""
        return f"image/{self.format}"

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as a viewer shows the picture: `orientation` applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def probe(data: Buffer) -> ImageInfo:
    """Format, size, frames and orientation from the header alone; decodes nothing.

    Raises ProblemError UNSUPPORTED_IMAGE (not one of the six formats) or INVALID_IMAGE (a damaged header).
    """
    reader = _reader(data)
    try:
        info = reader(data)
    except (struct.error, IndexError, ifd.DamagedDirectoryError) as error:
        raise invalid(f"the header is cut short or damaged ({error})") from error
    if info.width < 1 or info.height < 1:
        raise invalid(f"the header gives a size of {info.width}x{info.height}")
    return info


def invalid(why: str) -> ProblemError:
    """The problem of bytes that no decoder can turn into the whole picture."""
    return ProblemError(
        ProblemType.INVALID_IMAGE, f"The image cannot be decoded: {why}. Send an intact file."
    )


def unsupported(what: str) -> ProblemError:
    """The problem of a format, or a variant of one, that is not decoded here."""
    return ProblemError(
        ProblemType.UNSUPPORTED_IMAGE, f"{what} is not supported: send JPEG, PNG, WebP, GIF, TIFF or BMP."
    )


def _reader(data: Buffer) -> Callable[[Buffer], ImageInfo]:
    for signature, reader in _SIGNATURES:
        if data.startswith(signature):
            return reader
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp
    raise unsupported("This image format" if data else "An empty image")


def _jpeg(data: Buffer) -> ImageInfo:
    size: tuple[int, int] | None = None
    components, orientation, offset, progressive = 0, 1, 2, False
    while True:
        marker, body, offset = _jpeg_segment(data, offset)
        if marker in _JPEG_LOSSLESS_OR_HIERARCHICAL:
            raise unsupported("A lossless or hierarchical JPEG")
        if marker in _JPEG_FRAMES:
            precision, height, width, components = struct.unpack_from(">BHHB", data, body)
            if precision != 8:
                raise unsupported(f"A JPEG with {precision} bits per sample")
            size, progressive = size or (width, height), progressive or marker in _JPEG_PROGRESSIVE
        elif marker == 0xE1 and data[body : body + 6] == b"Exif\0\0":
            orientation = ifd.exif_orientation(data[body + 6 : offset])
        elif marker == 0xDA:
            break
    if size is None:
        raise invalid("it has no frame header")
    if progressive or data[body] < components:
        _check_scans(data, offset)
    return ImageInfo("jpeg", *size, orientation=orientation)


def _jpeg_segment(data: Buffer, offset: int) -> tuple[int, int, int]:
    """The marker at `offset`, where its body starts, and where the next segment starts."""
    if data[offset] != 0xFF:
        raise invalid("bytes that belong to no segment stand before its pixels")
    while data[offset] == 0xFF:
        offset += 1
    marker = data[offset]
    if marker == 0xD9:
        raise invalid("it ends before its pixels")
    if marker == 0x01 or 0xD0 <= marker <= 0xD8:
        return marker, offset + 1, offset + 1
    (length,) = struct.unpack_from(">H", data, offset + 1)
    return marker, offset + 3, offset + 1 + length


def _check_scans(data: Buffer, offset: int) -> None:
    """Refuse a JPEG of very many scans: a few kilobytes of them keep a decoder busy for minutes."""
    scans = 1
    while match := _JPEG_MARKER.search(data, offset):
        marker, offset = match.group()[1], match.end()
        if marker == 0xD9:
            return
        scans += marker == 0xDA
        if scans > MAX_SCANS:
            raise invalid(f"it has more than {MAX_SCANS} scans")
        if marker != 0x01 and offset + 2 <= len(data):
            offset += int.from_bytes(data[offset : offset + 2], "big")


def _png(data: Buffer) -> ImageInfo:
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:
        raise invalid("its first chunk is not IHDR")
    frames, orientation = 1, 1
    for name, body, size in _chunks(data, 8, ">I4s", length_first=True):
        if name == b"acTL" and size >= 4:
            frames = max(1, int.from_bytes(data[body : body + 4], "big"))
        elif name == b"eXIf":
            orientation = ifd.exif_orientation(data[body : body + size])
        elif name == b"IEND":
            break
    return ImageInfo("png", width, height, frames, orientation)


def _webp(data: Buffer) -> ImageInfo:
    size: tuple[int, int] | None = None
    frames, orientation = 0, 1
    for name, body, length in _chunks(data, 12, "<4sI", length_first=False):
        if name in _WEBP_SIZES and size is None:
            size = _WEBP_SIZES[name](data, body)
        if name == b"EXIF":
            exif = data[body : body + length]
            orientation = ifd.exif_orientation(exif.removeprefix(b"Exif\0\0"))
        frames += name == b"ANMF"
    if size is None:
        raise invalid("it has no frame header")
    return ImageInfo("webp", *size, frames=max(1, frames), orientation=orientation)


def _webp_canvas(data: Buffer, body: int) -> tuple[int, int]:
    width, height = data[body + 4 : body + 7], data[body + 7 : body + 10]
    if len(height) < 3:
        raise invalid("its header is cut short")
    return 1 + int.from_bytes(width, "little"), 1 + int.from_bytes(height, "little")


def _webp_lossy(data: Buffer, body: int) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, body + 6)
    return width & 0x3FFF, height & 0x3FFF


def _webp_lossless(data: Buffer, body: int) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", data, body + 1)
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


_WEBP_SIZES = {b"VP8X": _webp_canvas, b"VP8 ": _webp_lossy, b"VP8L": _webp_lossless}


def _chunks(
    data: Buffer, offset: int, layout: str, *, length_first: bool
) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's name, where its body starts and its length; a cut-off tail ends the walk."""
    for _ in range(MAX_CHUNKS):
        if offset + 8 > len(data):
            return
        first, second = struct.unpack_from(layout, data, offset)
        name, length = (second, first) if length_first else (first, second)
        yield name, offset + 8, length
        # A PNG chunk is followed by its checksum, a RIFF chunk is padded to an even length.
        offset += 8 + length + (4 if length_first else length & 1)
    raise invalid(f"it has more than {MAX_CHUNKS} chunks")


def _gif(data: Buffer) -> ImageInfo:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    offset = 13 + _colour_table(flags)
    frames = 0
    while offset < len(data) and frames < MAX_CHUNKS:
        block = data[offset]
        if block == 0x2C and offset + 10 <= len(data):
            if frames == 0:
                # The first frame may reach beyond the logical screen: decoders then grow the picture.
                left, top, wide, high = struct.unpack_from("<HHHH", data, offset + 1)
                width, height = max(width, left + wide), max(height, top + high)
            frames += 1
            offset = _skip_sub_blocks(data, offset + 11 + _colour_table(data[offset + 9]))
        elif block == 0x21:
            offset = _skip_sub_blocks(data, offset + 2)
        else:
            break
    if frames == 0:
        raise invalid("it has no frame")
    return ImageInfo("gif", width, height, frames)


def _colour_table(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _skip_sub_blocks(data: Buffer, offset: int) -> int:
    while offset < len(data) and (length := data[offset]):
        offset += 1 + length
    return offset + 1


def _tiff(data: Buffer) -> ImageInfo:
    directory = ifd.first_directory(data)
    width, height = directory.value(ifd.WIDTH, 0), directory.value(ifd.HEIGHT, 0)
    tile = directory.value(ifd.TILE_WIDTH, 1) * directory.value(ifd.TILE_HEIGHT, 1)
    if tile > max(width * height, 1024 * 1024) * 4:
        raise invalid("its tiles are far larger than the picture")
    frames = ifd.count_directories(data, MAX_CHUNKS)
    return ImageInfo("tiff", width, height, frames, directory.orientation)


def _bmp(data: Buffer) -> ImageInfo:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return ImageInfo("bmp", width, abs(height))


_SIGNATURES: tuple[tuple[bytes, Callable[[Buffer], ImageInfo]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"BM", _bmp),
)
