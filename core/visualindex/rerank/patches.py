"""Local features small enough to keep: an encoder's patches projected to 64 dimensions and packed into bytes.

The projection is a principal component analysis (Pearson, 1901) of patches of other pictures than those it is used on.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from visualindex.errors import ProblemError, ProblemType

Codes = npt.NDArray[np.int8]
"""Packed patches: int8[patches, width] of one picture, int8[n, patches, width] of several."""

Scales = npt.NDArray[np.float16]
"""float16[n]: what a picture's codes are multiplied with to give unit vectors."""

RawPatches = npt.NDArray[np.float16]
"""An encoder's patches: float16[n, rows, columns, channels]."""

WIDTH = 64
_LARGEST_CODE = 127
_FIT_BATCH = 16
_SCALE_BYTES = 2


@dataclass(frozen=True)
class Packed:
    """`codes` int8[n, patches, width] and `scales` float16[n]: codes times scale are L2-normalised patches."""

    codes: Codes
    scales: Scales

    def row_bytes(self, row: int) -> bytes:
        """One picture's patches as bytes: the scale, then the codes, little-endian."""
        one = slice(row, row + 1)
        return self.scales[one].astype("<f2").tobytes() + self.codes[one].tobytes()


@dataclass(frozen=True)
class PatchProjection:
    """`mean` float32[channels] and `components` float32[width, channels], orthonormal rows by falling variance.

    `encoder` is the fingerprint of the unprojected encoder on whose patches it was fitted and on which alone it may be
    used.
    """

    encoder: str
    mean: npt.NDArray[np.float32]
    components: npt.NDArray[np.float32]

    @property
    def width(self) -> int:
        """Numbers per packed patch."""
        return len(self.components)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over encoder and matrix: packed patches of two fingerprints must never meet."""
        parts = (self.mean, self.components)
        content = b"".join(np.ascontiguousarray(part, "<f4").tobytes() for part in parts)
        return hashlib.sha256(self.encoder.encode() + content).hexdigest()[:16]

    def pack(self, patches: RawPatches) -> Packed:
        """Project, L2-normalise and pack float16[n, rows, columns, channels] to int8[n, rows * columns, width].

        Raises ValueError for patches with another number of channels.
        """
        n, rows, columns, channels = patches.shape
        if channels != len(self.mean):
            raise ValueError(
                f"the patches have {channels} channels, but this projection takes {len(self.mean)}: "
                "fit one on this encoder with `visualindex encoder fit-patches`"
            )
        flat = patches.reshape(-1, channels).astype(np.float32) - self.mean
        projected = flat @ self.components.T
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        unit = projected / np.maximum(norms, np.finfo(np.float32).tiny)
        return _quantised(unit.reshape(n, rows * columns, self.width))

    def save(self, path: Path) -> None:
        """Write a `.npz` file in half precision."""
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                encoder=np.array(self.encoder),
                mean=self.mean.astype(np.float16),
                components=self.components.astype(np.float16),
            )


def _quantised(unit: npt.NDArray[np.float32]) -> Packed:
    """One scale per picture, from its largest number; it is rounded first, so that codes fit the scale that is kept."""
    largest = np.abs(unit).max(axis=(1, 2))
    # A picture of one colour may have no patch that differs from the mean: its codes are zeros under any scale.
    scales = np.maximum(largest / _LARGEST_CODE, np.finfo(np.float16).tiny).astype(np.float16)
    codes = np.rint(unit / scales.astype(np.float32)[:, None, None])
    return Packed(np.clip(codes, -_LARGEST_CODE, _LARGEST_CODE).astype(np.int8), scales)


def packed_row(data: bytes, width: int = WIDTH) -> Packed:
    """One picture's patches out of `Packed.row_bytes`, as n = 1. Raises ValueError for bytes that are none."""
    if len(data) <= _SCALE_BYTES or (len(data) - _SCALE_BYTES) % width:
        raise ValueError(f"{len(data)} bytes are no packed patches of width {width}")
    scale = np.frombuffer(data, "<f2", count=1)
    if not np.isfinite(scale[0]) or scale[0] <= 0:
        raise ValueError("the scale of the packed patches is no positive number")
    return Packed(np.frombuffer(data, np.int8, offset=_SCALE_BYTES).reshape(1, -1, width), scale)


def load_patch_projection(path: Path) -> PatchProjection:
    """Read a `.npz` file. Raises ProblemError INVALID_REQUEST when it is not a projection of patches."""
    with path.open("rb") as file:
        return _read(file, str(path))


def shipped_projection(encoder: str) -> PatchProjection | None:
    """The projection in this package that was fitted on the unprojected encoder of that fingerprint, or None."""
    folder = resources.files("visualindex.rerank").joinpath("data")
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".npz"):
            with entry.open("rb") as file:
                found = _read(file, entry.name)
            if found.encoder == encoder:
                return found
    return None


def _read(file: IO[bytes], name: str) -> PatchProjection:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            encoder, mean, components = (arrays[key] for key in ("encoder", "mean", "components"))
        if mean.ndim != 1 or components.ndim != 2 or components.shape[1:] != mean.shape:
            raise ValueError(f"its arrays have the shapes {list(mean.shape)} and {list(components.shape)}")
    except Exception as e:  # zip, zlib and numpy each have their own
        detail = f"{name} is not a projection of patches ({e}): give a file written by `visualindex encoder fit-patches`"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from e
    return PatchProjection(str(encoder), mean.astype(np.float32), components.astype(np.float32))


class PatchEncoder(Protocol):
    """The part of an encoder that a fit needs: see `visualindex.encoders.Encoder`, unprojected."""

    @property
    def fingerprint(self) -> str:
        """Names the unprojected encoder."""

    def encode(self, images: npt.NDArray[np.uint8], *, patches: bool = False) -> Any:
        """Encode uint8[n, height, width, 3]; the result has `patches`."""


def fit_patch_projection(
    encoder: PatchEncoder, images: Iterable[npt.NDArray[np.uint8]], *, width: int = WIDTH
) -> PatchProjection:
    """Fit a projection on the patches of uint8[height, width, 3] images, in memory of the covariance alone.

    The same images in the same order give the same projection. Raises ProblemError INVALID_REQUEST when the images have
    fewer patches than there are components, or the encoder gives none.
    """
    batches = (encoder.encode(batch, patches=True).patches for batch in _batches(images))
    return fit_patches(encoder.fingerprint, batches, width=width)


def fit_patches(encoder: str, batches: Iterable[RawPatches | None], *, width: int = WIDTH) -> PatchProjection:
    """As `fit_patch_projection`, on patches float16[n, rows, columns, channels] that were computed before."""
    count, total, products = 0, np.zeros(0), np.zeros((0, 0))
    for batch in batches:
        if batch is None:
            raise ProblemError(ProblemType.INVALID_REQUEST, "this encoder gives no patches: it cannot rerank")
        wide = batch.reshape(-1, batch.shape[-1]).astype(np.float64)
        if not count:
            total, products = np.zeros(wide.shape[1]), np.zeros((wide.shape[1],) * 2)
        count, total, products = count + len(wide), total + wide.sum(axis=0), products + wide.T @ wide
    if count <= width:
        detail = f"{count} patches cannot fix {width} components: fit on more images"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail)
    mean = total / count
    return PatchProjection(encoder, mean.astype(np.float32), _principal(mean, products / count, width))


def _principal(
    mean: npt.NDArray[np.float64], moment: npt.NDArray[np.float64], width: int
) -> npt.NDArray[np.float32]:
    variances, vectors = np.linalg.eigh(moment - np.outer(mean, mean))
    components = vectors[:, np.argsort(variances)[::-1][:width]].T
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])[:, None]  # so that fits repeat
    return np.asarray(components * signs, np.float32)


def _batches(images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    pending = iter(images)
    while batch := list(islice(pending, _FIT_BATCH)):
        yield np.stack(batch)
