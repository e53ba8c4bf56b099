"""Real embeddings: the picture collections, enlarged by augmentation, through the default encoder.

Each picture is decoded once and shown again and again: another crop, mirrored or not, turned a little, under other light.
Views of one picture lie close together and views of one category less so, as photographs of a catalogue's products do.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.engine.vectors import Numbers, Vectors
from visualindex.collections import COLLECTIONS, fetch_collection
from visualindex.encoders import load_encoder
from visualindex.imaging.decoding import decode
from visualindex.imaging.inputs import InputSpec
from visualindex.imaging.jobs import Bounds, DecodeJob
from visualindex.spec import Spec

Picture = NDArray[np.uint8]

_BATCH = 64
_EDGE = 384
_LEAST_AREA = 0.45
_DEGREES = 15.0


def embedded(rows: int, cache: Path, threads: int, seed: int = 17) -> tuple[Vectors, Numbers]:
    """Views of the pictures in turn: float32[rows, d], L2-normalised, and their categories as numbers, int64[rows].

    Raises ProblemError when a collection's package cannot be had.
    """
    cv2.setNumThreads(1)
    spec = Spec()
    encoder = load_encoder(spec.encoder, cache_dir=cache, threads=threads)
    pictures, categories = _pictures(cache, Bounds.of(spec.limits))
    random = np.random.default_rng(seed)
    shown = random.permutation(np.resize(np.arange(len(pictures)), rows))
    parts = [
        encoder.encode(batch, parallelism="throughput").vectors
        for batch in _batches(pictures, shown, encoder.input, random)
    ]
    return np.concatenate(parts), categories[shown]


def _pictures(cache: Path, bounds: Bounds) -> tuple[list[Picture], Numbers]:
    """Every picture of every collection, uint8[384, 384, 3], and its category's number."""
    large = InputSpec(_EDGE, _EDGE, resize="squash", interpolation="bicubic")
    pictures, names = [], []
    for name in COLLECTIONS:
        collection = fetch_collection(name, cache / name)
        for item in collection.items:
            pixels = decode(DecodeJob((collection.root / item.path).read_bytes(), large), bounds).pixels
            assert pixels is not None
            pictures.append(pixels)
            names.append(f"{name}/{item.category}")
    return pictures, np.unique(names, return_inverse=True)[1].astype(np.int64)


def _batches(
    pictures: Sequence[Picture], shown: Numbers, wanted: InputSpec, random: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    for at in range(0, len(shown), _BATCH):
        yield np.stack([augmented(pictures[n], wanted, random) for n in shown[at : at + _BATCH]])


def augmented(picture: Picture, wanted: InputSpec, random: np.random.Generator) -> Picture:
    """Another view of a picture: uint8[height, width, 3] of the encoder's size."""
    edge = picture.shape[0]
    side = np.sqrt(random.uniform(_LEAST_AREA, 1.0))
    turn = cv2.getRotationMatrix2D((edge / 2, edge / 2), random.uniform(-_DEGREES, _DEGREES), 1.0)
    turned = cv2.warpAffine(picture, turn, (edge, edge), borderMode=cv2.BORDER_REPLICATE)
    size = int(side * edge)
    left, top = random.integers(0, edge - size + 1, 2)
    view = cv2.resize(turned[top : top + size, left : left + size], (wanted.width, wanted.height))
    if random.random() < 0.5:
        view = view[:, ::-1]
    light = random.uniform(0.75, 1.25) * random.uniform(0.92, 1.08, 3)
    lit: Picture = np.clip(view * light + random.uniform(-12, 12), 0, 255).astype(np.uint8)
    return lit
