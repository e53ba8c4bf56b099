"""How long one JPEG takes to become an encoder's input: our decoder beside what else could have been used.

    python benchmarks/decode.py [--image photo.jpg] [--rounds 40]

Without `--image` a 1600x1200 picture with the spectrum of a photograph is made, at the JPEG quality nearest to 500 KB.
Ratios are to the fastest of the others; difference is the mean absolute one to Pillow's full decode, in levels of 255.
"""

import argparse
import asyncio
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from visualindex.imaging import DecodeJob, DecodePool, InputSpec
from visualindex.imaging.decoding import decode
from visualindex.imaging.jobs import Bounds
from visualindex.spec import LimitsSpec

EDGE = 224
INPUT = InputSpec(EDGE, EDGE, "squash", "bicubic")
Decoder = Callable[[bytes], NDArray[np.uint8]]


def main() -> None:
    """Measure and print the table."""
    arguments = _arguments()
    data = arguments.image.read_bytes() if arguments.image else _photograph(1600, 1200, 500_000)
    cv2.setNumThreads(1)
    print(
        f"{len(data) / 1000:.0f} KB JPEG to {EDGE}x{EDGE}, {arguments.rounds} interleaved rounds, one thread"
    )
    _print_decoders(data, arguments.rounds)
    asyncio.run(_print_pool(data, arguments.rounds))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, help="a JPEG file to decode instead of the made one")
    parser.add_argument("--rounds", type=int, default=40, help="measurements per decoder")
    return parser.parse_args()


def _photograph(width: int, height: int, wanted_bytes: int) -> bytes:
    random = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 10):
        noise = random.normal(size=(height >> (9 - octave), width >> (9 - octave), 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * 0.72**octave
    picture = ((total - total.mean()) / total.std() * 50 + 128).clip(0, 255).astype(np.uint8)
    files = (
        simplejpeg.encode_jpeg(picture, quality=quality, colorsubsampling="420")
        for quality in range(95, 20, -1)
    )
    return min(files, key=lambda file: abs(len(file) - wanted_bytes))


def _pillow_full(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(
        Image.open(io.BytesIO(data)).convert("RGB").resize((EDGE, EDGE), Image.Resampling.BICUBIC)
    )


def _pillow_draft(data: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (2 * EDGE, 2 * EDGE))
    return np.asarray(image.resize((EDGE, EDGE), Image.Resampling.BICUBIC))


def _opencv_reduced(data: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_4)
    assert image is not None
    small = cv2.resize(image, (EDGE, EDGE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)


def _simplejpeg_full(data: bytes) -> NDArray[np.uint8]:
    return _opencv_resized(simplejpeg.decode_jpeg(data, "RGB"))


def _simplejpeg_scaled(data: bytes) -> NDArray[np.uint8]:
    return _opencv_resized(simplejpeg.decode_jpeg(data, "RGB", min_height=EDGE, min_width=EDGE))


def _opencv_resized(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, (EDGE, EDGE), interpolation=cv2.INTER_AREA), np.uint8)


def _visualindex(data: bytes) -> NDArray[np.uint8]:
    pixels = decode(DecodeJob(data, INPUT), Bounds.of(LimitsSpec())).pixels
    assert pixels is not None
    return pixels


OTHERS: dict[str, Decoder] = {
    "Pillow, full": _pillow_full,
    "Pillow, draft at twice the size": _pillow_draft,
    "OpenCV, reduced by 4": _opencv_reduced,
    "simplejpeg, full + OpenCV": _simplejpeg_full,
    "simplejpeg, scaled + OpenCV": _simplejpeg_scaled,
}
OURS = "VisualIndex, in process"


def _print_decoders(data: bytes, rounds: int) -> None:
    decoders = {**OTHERS, OURS: _visualindex}
    timings: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds):
        for name, decoder in decoders.items():
            timings[name].append(_milliseconds(lambda decoder=decoder: decoder(data)))
    best = min(statistics.median(timings[name]) for name in OTHERS)
    reference = _pillow_full(data).astype(int)
    print(f"{'decoder':34}{'median ms':>10}{'best ms':>9}{'ratio':>7}{'difference':>12}")
    for name, decoder in decoders.items():
        median, difference = statistics.median(timings[name]), np.abs(decoder(data) - reference).mean()
        print(f"{name:34}{median:10.2f}{min(timings[name]):9.2f}{median / best:7.2f}{difference:12.2f}")


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


async def _print_pool(data: bytes, rounds: int) -> None:
    pool = DecodePool(1, LimitsSpec())
    started = time.perf_counter()
    await pool.start()
    print(f"\npool of one worker and a spare: ready after {(time.perf_counter() - started) * 1000:.0f} ms")
    job, here, there = DecodeJob(data, INPUT), [], []
    try:
        await pool.decode(job)
        for _ in range(rounds):
            started = time.perf_counter()
            await pool.decode(job)
            there.append((time.perf_counter() - started) * 1000)
        here = [_milliseconds(lambda: _visualindex(data)) for _ in range(rounds)]
    finally:
        await pool.close()
    for name, average in (("median", statistics.median), ("best", min)):
        print(
            f"{name:8} in a worker {average(there):6.2f} ms, over in process {average(there) - average(here):+.2f} ms"
        )


if __name__ == "__main__":
    main()
