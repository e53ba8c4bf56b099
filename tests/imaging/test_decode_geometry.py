"""Scaled decoding, boxes, crops and thumbnails show what full decoding would."""

import io

import numpy as np
import pytest
from imaging_pictures import BOUNDS, CORNERS, SQUASH, close, corners, encoded, natural, quadrants
from PIL import Image

from visualindex.errors import ProblemError, ProblemType
from visualindex.imaging import Box, DecodeJob, InputSpec
from visualindex.imaging.decoding import decode

WIDE = natural(1600, 1200)


def mean_difference(pixels: np.ndarray | None, reference: Image.Image) -> float:
    """Mean absolute difference in levels (0 to 255)."""
    assert pixels is not None
    return float(np.abs(pixels.astype(int) - np.asarray(reference).astype(int)).mean())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_large_picture_is_close_to_full_decoding(kind: str, interpolation: str) -> None:
    """Decoding at a fraction differs from decoding whole and resampling by less than a level."""
    data = encoded(WIDE, kind, quality=88)
    wanted = InputSpec(224, 224, "squash", interpolation)  # type: ignore[arg-type]
    method = Image.Resampling[interpolation.upper()]
    full = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), method)
    assert mean_difference(decode(DecodeJob(data, wanted), BOUNDS).pixels, full) < 1.0


def test_downscaling_is_antialiased() -> None:
    """Lines finer than a pixel of the result become grey instead of moiré."""
    lines = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (1024, 512)))
    pixels = decode(DecodeJob(encoded(lines, "PNG"), SQUASH), BOUNDS).pixels
    assert pixels is not None
    assert close(pixels, 127, 6)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 500), (500, 1), (224, 224), (225, 223)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_extreme_sizes(kind: str, size: tuple[int, int]) -> None:
    """Pictures smaller or thinner than the input still fill it."""
    data = encoded(Image.new("RGB", size, (200, 100, 50)), kind)
    decoded = decode(DecodeJob(data, SQUASH, thumbnails=(128,)), BOUNDS)
    assert decoded.pixels is not None
    assert close(decoded.pixels, (200, 100, 50), 3)
    longest = max(size)
    expected = tuple(max(1, round(edge * min(1, 128 / longest))) for edge in size)
    assert Image.open(io.BytesIO(decoded.thumbnails[128])).size == expected


@pytest.mark.parametrize(
    ("box", "colour"),
    [
        ((0.0, 0.0, 0.5, 0.5), CORNERS[0]),
        ((0.5, 0.0, 0.5, 0.5), CORNERS[1]),
        ((0.05, 0.6, 0.4, 0.3), CORNERS[2]),
        ((0.999, 0.999, 0.0005, 0.0005), CORNERS[3]),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_box_is_cut_from_the_upright_picture(
    box: Box, colour: tuple[int, int, int], orientation: int
) -> None:
    """A box counts from the top left as the viewer sees it, not as the file is stored."""
    stored = (
        quadrants(800, 600) if orientation == 1 else quadrants(800, 600).transpose(Image.Transpose.ROTATE_90)
    )
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(stored, "JPEG", exif=exif, quality=95)
    pixels = decode(DecodeJob(data, SQUASH, box=box), BOUNDS).pixels
    assert pixels is not None
    assert close(pixels[16:48, 16:48], colour, 4)


def test_a_small_box_is_decoded_at_its_own_resolution() -> None:
    """The scale follows the box: a part of a large picture is as sharp as cropping the full picture."""
    data = encoded(WIDE, "JPEG", quality=90)
    pixels = decode(DecodeJob(data, SQUASH, box=(0.25, 0.25, 0.125, 0.125)), BOUNDS).pixels
    crop = Image.open(io.BytesIO(data)).crop((400, 300, 600, 450))
    assert mean_difference(pixels, crop.resize((64, 64), Image.Resampling.BICUBIC)) < 1.5


def test_center_crop_keeps_the_aspect_ratio() -> None:
    """The centre square of a wide picture, as `Resize` then `CenterCrop` of the usual transforms give it."""
    data = encoded(WIDE, "PNG")
    pixels = decode(DecodeJob(data, InputSpec(96, 96, "center_crop", "bicubic")), BOUNDS).pixels
    centre = WIDE.crop((200, 0, 1400, 1200)).resize((96, 96), Image.Resampling.BICUBIC)
    assert mean_difference(pixels, centre) < 1.0


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 1),
        (0, 0, 1.1, 1),
        (-0.1, 0, 0.5, 0.5),
        (0.6, 0, 0.5, 1),
        (float("nan"), 0, 1, 1),
        (0, 0, float("nan"), 1),
    ],
)
def test_a_box_outside_the_picture_is_refused(box: Box) -> None:
    """The caller learns of an impossible box before anything is decoded."""
    with pytest.raises(ProblemError) as caught:
        DecodeJob(b"", SQUASH, box=box)
    assert caught.value.type is ProblemType.INVALID_REQUEST


@pytest.mark.parametrize("edge", [0, -1, 100_000])
def test_an_impossible_thumbnail_is_refused(edge: int) -> None:
    """Sizes are bounded before anything is decoded."""
    with pytest.raises(ProblemError) as caught:
        DecodeJob(b"", None, thumbnails=(edge,))
    assert caught.value.type is ProblemType.INVALID_REQUEST


def test_thumbnails_beside_pixels() -> None:
    """One decode gives both; thumbnails are WebP of the whole, however small the box of the pixels."""
    data = encoded(WIDE, "JPEG", quality=90)
    decoded = decode(DecodeJob(data, SQUASH, box=(0, 0, 0.5, 0.5), thumbnails=(128, 320, 640)), BOUNDS)
    assert decoded.pixels is not None
    assert set(decoded.thumbnails) == {128, 320, 640}
    for edge, thumbnail in decoded.thumbnails.items():
        picture = Image.open(io.BytesIO(thumbnail))
        assert picture.format == "WEBP"
        assert picture.size == (edge, edge * 3 // 4)
        assert mean_difference(np.asarray(picture.convert("L")), WIDE.resize(picture.size).convert("L")) < 5
    assert decoded.cpu_ms > 0


def test_thumbnails_are_never_enlarged_and_carry_no_metadata() -> None:
    """A small picture keeps its size, and neither place nor camera of the original leaks."""
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    data = encoded(
        quadrants(100, 50), "JPEG", exif=exif, icc_profile=b"SecretProfile" * 20, comment=b"SecretComment"
    )
    thumbnails = decode(DecodeJob(data, None, thumbnails=(320, 40)), BOUNDS).thumbnails
    assert Image.open(io.BytesIO(thumbnails[320])).size == (100, 50)
    assert Image.open(io.BytesIO(thumbnails[40])).size == (40, 20)
    assert not any(b"Secret" in thumbnail for thumbnail in thumbnails.values())


def test_a_job_for_nothing_still_checks_the_image() -> None:
    """Without input and thumbnails a decode says whether the bytes are an image."""
    data = encoded(WIDE, "JPEG")
    assert decode(DecodeJob(data, None), BOUNDS).pixels is None
    with pytest.raises(ProblemError):
        decode(DecodeJob(data[: len(data) // 2], None), BOUNDS)


def test_quarters_of_a_reduced_picture() -> None:
    """Reducing by whole factors does not shift the picture."""
    pixels = decode(DecodeJob(encoded(quadrants(3001, 2001), "PNG"), SQUASH), BOUNDS).pixels
    assert pixels is not None
    assert close(corners(pixels), CORNERS, 2)
