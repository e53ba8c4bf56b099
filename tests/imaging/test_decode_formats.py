"""Every supported format and its oddities decode to the picture a viewer would show."""

import io
import struct

import numpy as np
import pytest
from imaging_pictures import BOUNDS, CORNERS, SQUASH, close, corners, encoded, natural, quadrants
from PIL import Image

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import DecodeJob, probe
from visualindex.imaging.decoding import decode

LOSSLESS = ("PNG", "GIF", "TIFF", "BMP")
ALL = (*LOSSLESS, "JPEG", "WEBP")
WHITE = (255, 255, 255)


def pixels_of(data: bytes) -> np.ndarray:
    """The whole image as the 64x64 encoder input."""
    pixels = decode(DecodeJob(data, SQUASH), BOUNDS).pixels
    assert pixels is not None
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    return pixels


@pytest.mark.parametrize("kind", ALL)
def test_a_plain_picture(kind: str) -> None:
    """All six formats show the four colours where they belong, and say what they are."""
    data = encoded(quadrants(), kind)
    assert close(corners(pixels_of(data)), CORNERS, 3)
    info = probe(data)
    assert (info.format, info.width, info.height, info.frames) == (kind.lower(), 120, 80, 1)
    assert info.media_type == f"image/{kind.lower()}"


@pytest.mark.parametrize("kind", ALL)
def test_a_picture_that_nothing_is_asked_of_is_only_checked(kind: str) -> None:
    """It must decode all the same: a damaged one is found out."""
    data = encoded(quadrants(), kind)
    decoded = decode(DecodeJob(data, None), BOUNDS)
    assert (decoded.pixels, decoded.thumbnails, decoded.colours) == (None, {}, ())
    with pytest.raises(ProblemError):
        decode(DecodeJob(data[: len(data) // 2], None), BOUNDS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF-LZW"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    """A picture stored turned or mirrored comes out upright."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quadrants() if orientation == 1 else quadrants().transpose(turn[orientation])
    if kind.startswith("TIFF"):
        compression = {"compression": "tiff_lzw"} if kind == "TIFF-LZW" else {}
        data = encoded(stored, "TIFF", tiffinfo={274: orientation}, **compression)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        data = encoded(stored, kind, exif=exif, quality=95)
    decoded = decode(DecodeJob(data, SQUASH, thumbnails=(60,)), BOUNDS)
    assert decoded.pixels is not None
    assert close(corners(decoded.pixels), CORNERS, 3)
    assert (decoded.info.width, decoded.info.height) == stored.size
    assert decoded.info.orientation == orientation
    assert decoded.info.upright_size == (120, 80)
    assert Image.open(io.BytesIO(decoded.thumbnails[60])).size == (60, 40)


@pytest.mark.parametrize("progressive", [False, True])
def test_cmyk_jpeg(progressive: bool) -> None:
    """CMYK with Adobe's inverted samples shows its true colours."""
    data = encoded(quadrants().convert("CMYK"), "JPEG", quality=95, progressive=progressive)
    assert close(corners(pixels_of(data)), CORNERS, 3)


def test_ycck_jpeg() -> None:
    """The same inks stored as YCCK (Adobe transform 2) show the same colours."""
    inks = np.asarray(quadrants().convert("CMYK"))
    # libjpeg converts inverted inks, which Adobe's files hold, after inverting them: what is left are the inks.
    ycc = np.asarray(Image.fromarray(inks[:, :, :3]).convert("YCbCr"))
    planes = np.dstack([ycc, 255 - inks[:, :, 3]])
    # Pillow inverts what it writes: inverted planes are stored as they are.
    data = encoded(Image.frombytes("CMYK", (120, 80), (255 - planes).tobytes()), "JPEG", quality=95)
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    assert close(corners(pixels_of(data[:transform] + b"\x02" + data[transform + 1 :])), CORNERS, 4)


@pytest.mark.parametrize("kind", ALL)
def test_greyscale(kind: str) -> None:
    """A grey picture has three equal channels."""
    ramp = Image.fromarray(np.tile(np.arange(0, 240, 2, dtype=np.uint8), (80, 1)))
    pixels = pixels_of(encoded(ramp, kind))
    # WebP has no grey mode of its own: colour conversion may differ by a level.
    assert np.ptp(pixels.astype(int), axis=2).max() <= 2
    assert close(pixels[32, [8, 32, 56], 0], [31, 121, 211], 4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey(kind: str) -> None:
    """16-bit grey keeps its brightness; clipping it to 8 bits would make it white."""
    ramp = np.tile(np.arange(0, 240, 2, dtype=np.uint16) * 257, (80, 1))
    assert close(pixels_of(encoded(Image.fromarray(ramp), kind))[32, [8, 32, 56], 0], [31, 121, 211], 2)


def test_sixteen_bit_grey_tiff_with_zero_as_white() -> None:
    """Photometric interpretation 0 means that zero is white."""
    dark = Image.fromarray(np.full((40, 40), 10 * 257, np.uint16))
    assert close(pixels_of(encoded(dark, "TIFF", tiffinfo={262: 0}))[20, 20], (245, 245, 245), 1)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_colour(suffix: str) -> None:
    """48 bits per pixel come out as the nearest 24."""
    cv2 = pytest.importorskip("cv2")
    bgr = np.asarray(quadrants())[:, :, ::-1].astype(np.uint16) * 257
    assert close(corners(pixels_of(cv2.imencode(suffix, bgr)[1].tobytes())), CORNERS, 1)


def test_palette_png_with_transparency() -> None:
    """The palette's transparent entry shows white."""
    palette = quadrants().quantize(4)
    index = palette.getpixel((5, 5))
    assert close(corners(pixels_of(encoded(palette, "PNG", transparency=index))), (WHITE, *CORNERS[1:]), 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("size", [(120, 80), (1200, 800)], ids=["small", "reduced"])
def test_alpha_is_composited_on_white(kind: str, size: tuple[int, int]) -> None:
    """Transparent is white, half transparent red is pink, opaque stays, at any decoding scale."""
    picture = quadrants(*size).convert("RGBA")
    half = (size[0] // 2, size[1] // 2)
    picture.paste((0, 0, 0, 0), (0, 0, *half))
    picture.paste((255, 0, 0, 128), (half[0], 0, size[0], half[1]))
    data = encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert close(corners(pixels_of(data)), (WHITE, (255, 127, 127), *CORNERS[2:]), 2)


def test_grey_with_alpha() -> None:
    """A transparent grey PNG shows white."""
    assert close(pixels_of(encoded(Image.new("LA", (50, 50), (0, 0)), "PNG"))[25, 25], WHITE, 0)


def test_one_bit_picture() -> None:
    """Black and white at one bit per pixel."""
    picture = Image.new("1", (64, 64), 1)
    picture.paste(0, (0, 0, 32, 64))
    row = pixels_of(encoded(picture, "TIFF", compression="group4"))[32, :, 0]
    assert close(row[[10, 50]], [0, 255], 0)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(kind: str) -> None:
    """The first of several frames is decoded; all are counted."""
    frames = [quadrants(), *(Image.new("RGB", (120, 80), (shade, shade, shade)) for shade in (9, 99, 199))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert probe(data).frames == 4
    assert close(corners(pixels_of(data)), CORNERS, 6)


def test_jpeg_with_several_pictures_is_its_first() -> None:
    """An MPO file, as phones and 3D cameras write, is the JPEG it starts with."""
    data = encoded(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (120, 80))])
    assert probe(data).format == "jpeg"
    assert close(corners(pixels_of(data)), CORNERS, 3)


def test_top_down_and_16_bit_headers_of_bmp() -> None:
    """A negative height and the OS/2 header are both read."""
    data = bytearray(encoded(quadrants(), "BMP"))
    struct.pack_into("<i", data, 22, -80)
    flipped = (CORNERS[2], CORNERS[3], CORNERS[0], CORNERS[1])
    assert close(corners(pixels_of(bytes(data))), flipped, 0)
    rows = np.zeros((40, 40 * 3), np.uint8) + 7
    core = struct.pack("<2sIHHI", b"BM", 26 + rows.size, 0, 0, 26) + struct.pack("<IHHHH", 12, 40, 40, 1, 24)
    assert close(pixels_of(core + rows.tobytes())[5, 5], (7, 7, 7), 0)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressed_tiff(compression: str) -> None:
    """The compressions that scanners and editors write."""
    assert close(corners(pixels_of(encoded(quadrants(), "TIFF", compression=compression))), CORNERS, 3)


def test_bytes_after_the_picture_are_ignored() -> None:
    """Cameras append data (motion photos) after the end of the JPEG."""
    assert close(corners(pixels_of(encoded(quadrants(), "JPEG") + b"\xff\xda tail " * 500)), CORNERS, 3)


def test_stray_bytes_between_jpeg_markers_are_tolerated() -> None:
    """Libjpeg skips a few stray bytes after the pixels without losing any."""
    data = encoded(quadrants(), "JPEG")
    assert close(corners(pixels_of(data[:-2] + b"\x00\x00\x00" + data[-2:])), CORNERS, 3)


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "PPM", "ICO", "PCX", "TGA"])
def test_another_image_format_is_unsupported(kind: str) -> None:
    """What Pillow could read but we do not take is refused by name of the problem."""
    with pytest.raises(ProblemError) as caught:
        decode(DecodeJob(encoded(quadrants(64, 64), kind), SQUASH), BOUNDS)
    assert caught.value.type is ProblemType.UNSUPPORTED_IMAGE


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"%PDF-1.7", b"\x00" * 100, b"PK\x03\x04"])
def test_what_is_no_image_is_unsupported(data: bytes) -> None:
    """Other files are refused without a decoder seeing them."""
    with pytest.raises(ProblemError) as caught:
        probe(data)
    assert caught.value.type is ProblemType.UNSUPPORTED_IMAGE


@pytest.mark.parametrize("samples", [1, 3])
def test_floating_point_tiff_is_unsupported(samples: int) -> None:
    """Samples without a defined white cannot be shown: refused instead of guessed."""
    cv2 = pytest.importorskip("cv2")
    data = cv2.imencode(".tiff", np.zeros((8, 8, samples), np.float32))[1].tobytes()
    assert outcome(data) is ProblemType.UNSUPPORTED_IMAGE


def test_much_padding_between_jpeg_markers_is_damage() -> None:
    """Many bytes without a marker after the pixels mean that the decoder lost its place."""
    data = encoded(quadrants(), "JPEG")
    assert outcome(data[:-2] + bytes(400) + data[-2:]) is ProblemType.INVALID_IMAGE


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95])
def test_a_file_cut_short_is_invalid(kind: str, kept: float) -> None:
    """Strict: a picture of which part is missing is refused, whatever the format."""
    data = encoded(natural(200, 150), kind)
    with pytest.raises(ProblemError) as caught:
        decode(DecodeJob(data[: int(len(data) * kept)], SQUASH), BOUNDS)
    assert caught.value.type is ProblemType.INVALID_IMAGE


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_invalid(progressive: bool) -> None:
    """Even the last byte counts: its absence is the one sign that a transfer broke off."""
    data = encoded(natural(200, 150), "JPEG", progressive=progressive)
    for missing in (1, 2, 50):
        with pytest.raises(ProblemError) as caught:
            decode(DecodeJob(data[:-missing], SQUASH), BOUNDS)
        assert caught.value.type is ProblemType.INVALID_IMAGE


def test_a_jpeg_with_damaged_entropy_data_is_invalid() -> None:
    """Damage that libjpeg would paper over with grey blocks is refused."""
    data = bytearray(encoded(natural(400, 300), "JPEG", quality=95))
    data[len(data) // 2 : len(data) // 2 + 3000] = np.random.default_rng(3).bytes(3000)
    with pytest.raises(ProblemError) as caught:
        decode(DecodeJob(bytes(data), SQUASH), BOUNDS)
    assert caught.value.type is ProblemType.INVALID_IMAGE


@pytest.mark.parametrize("kind", ALL)
def test_random_damage_never_escapes_as_another_error(kind: str) -> None:
    """Whatever bytes change, the answer is a picture or a problem about the image."""
    data = encoded(natural(60, 40), kind)
    random = np.random.default_rng(7)
    for _ in range(60):
        damaged = bytearray(data)
        for place in random.integers(0, min(len(data), 400), 3):
            damaged[place] = random.integers(0, 256)
        assert outcome(bytes(damaged)) in {
            None,
            ProblemType.INVALID_IMAGE,
            ProblemType.UNSUPPORTED_IMAGE,
            ProblemType.IMAGE_TOO_LARGE,
        }


def outcome(data: bytes) -> ProblemType | None:
    """The problem of decoding `data`, if any."""
    try:
        decode(DecodeJob(data, SQUASH), BOUNDS)
    except ProblemError as problem:
        return problem.type
    return None
