"""Files that claim, hide or hold more than an index takes are refused, before they cost memory."""

import struct
import zlib
from pathlib import Path

import pytest
from imaging_pictures import BOUNDS, SQUASH, encoded, natural, png_chunk, png_claiming, quadrants
from PIL import Image

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import DecodeJob, DecodePool, probe
from visualindex.imaging.decoding import decode
from visualindex.imaging.jobs import Bounds

TINY = Bounds(image_bytes=10_000, image_pixels=2_000, image_frames=3)


def problem_of(data: bytes, bounds: Bounds = BOUNDS) -> ProblemError:
    """The problem that decoding must raise."""
    with pytest.raises(ProblemError) as caught:
        decode(DecodeJob(data, SQUASH), bounds)
    return caught.value


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_pixels_are_limited_in_every_format(kind: str) -> None:
    """One pixel row more than allowed is refused, naming the limit; the allowed size passes."""
    assert decode(DecodeJob(encoded(Image.new("L", (50, 40)), kind), SQUASH), TINY).info.width == 50
    problem = problem_of(encoded(Image.new("L", (50, 41)), kind), TINY)
    assert problem.type is ProblemType.IMAGE_TOO_LARGE
    assert "limits.imagePixels" in problem.detail


def test_bytes_are_limited() -> None:
    """A file of more bytes than allowed is refused without looking at it."""
    problem = problem_of(b"\xff" * 10_001, TINY)
    assert problem.type is ProblemType.IMAGE_TOO_LARGE
    assert "limits.imageBytes" in problem.detail


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_frames_are_limited(kind: str) -> None:
    """An animation of more frames than allowed is refused; one frame fewer passes."""
    frames = [Image.new("RGB", (20, 20), (shade, 0, 0)) for shade in (0, 80, 160, 240)]
    passes = encoded(frames[0], kind, save_all=True, append_images=frames[1:3])
    assert decode(DecodeJob(passes, SQUASH), TINY).info.frames == 3
    problem = problem_of(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), TINY)
    assert problem.type is ProblemType.IMAGE_TOO_LARGE
    assert "limits.imageFrames" in problem.detail


def resident_peak(pid: int) -> int:
    """Peak resident memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def huge_header(kind: str) -> bytes:
    """A small file whose header claims 13,000 x 13,000 = 169 million pixels."""
    edge = 13_000
    if kind == "PNG":
        return png_claiming(edge, edge)
    if kind == "WEBP":
        canvas = (edge - 1).to_bytes(3, "little") * 2
        body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas
        return b"RIFF" + struct.pack("<I", len(body)) + body
    data = bytearray(encoded(Image.new("L", (16, 16)), kind))
    if kind == "JPEG":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, edge, edge)
    elif kind == "GIF":
        struct.pack_into("<HH", data, 6, edge, edge)
    elif kind == "BMP":
        struct.pack_into("<ii", data, 18, edge, edge)
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
async def test_a_claim_of_169_megapixels_costs_no_memory(kind: str, pool: DecodePool) -> None:
    """The header alone refuses it: the decoder's peak memory does not grow by even one such row of pixels' picture."""
    await pool.decode(DecodeJob(encoded(quadrants(), kind), SQUASH))
    before = {pid: resident_peak(pid) for pid in pool.pids}
    with pytest.raises(ProblemError) as caught:
        await pool.decode(DecodeJob(huge_header(kind), SQUASH))
    assert caught.value.type is ProblemType.IMAGE_TOO_LARGE
    assert {pid: resident_peak(pid) - peak < 4 * 1024**2 for pid, peak in before.items()} == dict.fromkeys(
        before, True
    )


def test_a_gif_frame_beyond_its_screen_counts() -> None:
    """The logical screen may lie: decoders grow the picture to hold the first frame."""
    data = bytearray(encoded(Image.new("L", (16, 16)), "GIF"))
    place = data.index(b"\x2c", 13 + 3)
    while struct.unpack_from("<HHHH", data, place + 1) != (0, 0, 16, 16):
        place = data.index(b"\x2c", place + 1)
    struct.pack_into("<HHHH", data, place + 1, 60_000, 60_000, 16, 16)
    assert problem_of(bytes(data)).type is ProblemType.IMAGE_TOO_LARGE


def test_a_jpeg_with_two_frame_headers_is_invalid() -> None:
    """A small size first and a large one after it must not pass the limit."""
    data = encoded(natural(64, 64), "JPEG")
    start = data.index(b"\xff\xc0")
    length = 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    second = bytearray(data[start : start + length])
    struct.pack_into(">HH", second, 5, 60_000, 60_000)
    assert (
        problem_of(data[: start + length] + second + data[start + length :]).type is ProblemType.INVALID_IMAGE
    )


def test_a_webp_whose_frame_exceeds_its_canvas_is_invalid() -> None:
    """The extended header says 16x16, the frame is 640x480."""
    frame = encoded(natural(640, 480), "WEBP")[12:]
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (15).to_bytes(3, "little") * 2
    body = b"WEBP" + canvas + frame
    assert problem_of(b"RIFF" + struct.pack("<I", len(body)) + body).type is ProblemType.INVALID_IMAGE


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"iTXt"])
async def test_a_bomb_in_png_metadata_is_defused(name: bytes, pool: DecodePool) -> None:
    """Two hundred megabytes of compressed metadata are never inflated."""
    await pool.decode(DecodeJob(encoded(quadrants(), "PNG"), SQUASH))
    inflated = 200 * 1024**2
    deflate = zlib.compressobj(9)
    bomb = b"".join(deflate.compress(bytes(1024**2)) for _ in range(inflated // 1024**2)) + deflate.flush()
    lead = b"key\0\1\0\0\0" if name == b"iTXt" else b"key\0\0"
    before = {pid: resident_peak(pid) for pid in pool.pids}
    with pytest.raises(ProblemError) as caught:
        await pool.decode(DecodeJob(png_claiming(64, 64, png_chunk(name, lead + bomb)), SQUASH))
    assert caught.value.type is ProblemType.INVALID_IMAGE
    assert max(resident_peak(pid) - peak for pid, peak in before.items()) < inflated // 4


def test_a_png_that_inflates_beyond_its_size_is_cut_off() -> None:
    """Pixels beyond the claimed size are never inflated into memory."""
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(50 * 1024**2), 9)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    decoded = decode(DecodeJob(b"\x89PNG\r\n\x1a\n" + chunks, SQUASH), BOUNDS)
    assert decoded.info.width == 8


def test_a_jpeg_of_very_many_scans_is_invalid() -> None:
    """Repeated scans of a progressive JPEG cost a pass over the whole picture each."""
    data = encoded(natural(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 1000 + b"\xff\xd9"
    assert probe(data).width == 64
    problem = problem_of(bomb)
    assert problem.type is ProblemType.INVALID_IMAGE
    assert "scans" in problem.detail


def test_scans_hidden_behind_a_comment_are_counted() -> None:
    """An end marker inside a comment does not end the count."""
    data = encoded(natural(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    comment = b"\xff\xfe\x00\x04\xff\xd9"
    bomb = data[:last] + comment + data[last:-2] * 1000 + b"\xff\xd9"
    assert "scans" in problem_of(bomb).detail


def tiff(*entries: tuple[int, int], next_directory: int = 0) -> bytes:
    """A little-endian TIFF of one directory with the given long tags, and no pixels."""
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", next_directory)


def test_a_tiff_whose_directories_form_a_loop_ends() -> None:
    """A directory that names itself as the next one is counted once."""
    assert probe(tiff((256, 8), (257, 8), next_directory=8)).frames == 1


def test_a_tiff_with_gigantic_tiles_is_invalid() -> None:
    """A small picture of one tile of 16 gigapixels is refused from its header."""
    data = tiff((256, 64), (257, 64), (322, 1 << 17), (323, 1 << 17))
    assert problem_of(data).type is ProblemType.INVALID_IMAGE


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_a_tiff_with_a_gigantic_strip_is_invalid(compression: int) -> None:
    """A strip that claims four gigabytes of a file of a few bytes is refused, whatever its compression."""
    data = tiff(
        (256, 4000),
        (257, 4000),
        (258, 8),
        (259, compression),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 4000),
        (279, 0xFFFFFFF0),
    )
    assert problem_of(data).type is ProblemType.INVALID_IMAGE


def test_a_png_of_very_many_chunks_is_invalid() -> None:
    """Walking millions of empty chunks would keep a decoder busy."""
    data = png_claiming(8, 8, png_chunk(b"tEXt", b"") * 70_000)
    assert "chunks" in problem_of(data).detail
