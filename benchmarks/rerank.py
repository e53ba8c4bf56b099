"""Measures what reranking gains on two collections, and fits the projection of patches that ships.

    python -m benchmarks.rerank                 # the tables of docs/reranking.md
    python -m benchmarks.rerank --short         # fewer queries
    python -m benchmarks.rerank fit             # core/visualindex/rerank/data/efficientnet-lite0.npz

An index holds one collection (furniture or stamps) and 2,000 pieces of clip art (Debian openclipart-png). Copies: pictures
of the collection, changed, must find themselves. Categories: pictures of the collection find others of their label, among
the collection alone. Weights are fitted on copies of one half of the pictures; all figures are of the other half. The
projection was fitted on 1,500 other pieces of clip art.
"""

import argparse
import functools
import itertools
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the thread that a reranker has

import cv2
import numpy as np
import numpy.typing as npt

from visualindex.collections import fetch_collection
from visualindex.collections.debian import cache_folder, unpacked_package
from visualindex.encoders import Encoder, load_encoder, load_unprojected
from visualindex.errors import ProblemError
from visualindex.imaging.decoding import decode
from visualindex.imaging.jobs import Bounds, DecodeJob
from visualindex.rerank.augmentations import AUGMENTATIONS, Pixels
from visualindex.rerank.fusion import Fusion, Judged
from visualindex.rerank.geometry import Keypoints, inliers, keypoints, verified_first
from visualindex.rerank.maxsim import maxsim
from visualindex.rerank.patches import Packed, PatchProjection, fit_patch_projection, shipped_projection
from visualindex.rerank.trial import halves, per_picture, run_trial
from visualindex.rerank.verdict import Interval, bootstrap
from visualindex.spec.models import EncoderSpec, LimitsSpec

CANDIDATES = 50
VERIFIED = 10
_RASTER = 512
_FITTED, _DISTRACTORS = 1500, 2000
_BOUNDS = Bounds.of(LimitsSpec())
_SHIPPED = Path(__file__).parent.parent / "core/visualindex/rerank/data/efficientnet-lite0.npz"


def raster(data: bytes) -> Pixels:
    """A file's upright picture, its longer side at most 512 pixels."""
    thumbnail = decode(DecodeJob(data, None, thumbnails=(_RASTER,)), _BOUNDS).thumbnails[_RASTER]
    decoded = cv2.imdecode(np.frombuffer(thumbnail, np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(decoded, np.uint8)


def prepared(data: bytes, encoder: Encoder) -> Pixels:
    """A file as the encoder takes it."""
    pixels = decode(DecodeJob(data, encoder.input), _BOUNDS).pixels
    assert pixels is not None
    return pixels


def as_file(pixels: Pixels) -> bytes:
    """A picture as a PNG file."""
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def clip_art(encoder: Encoder, skip: int, count: int) -> Iterator[Pixels]:
    """So many decodable pieces as the encoder takes them, after the first `skip` files of a fixed shuffle."""
    files = sorted(unpacked_package("openclipart-png", cache_folder()).rglob("*.png"))
    small = [file for file in files if file.stat().st_size < 150_000]
    for file in np.random.default_rng(0).permutation(np.array(small, object))[skip:]:
        try:
            yield prepared(Path(file).read_bytes(), encoder)
        except ProblemError:
            continue
        count -= 1
        if not count:
            return


@dataclass(frozen=True)
class Encoded:
    """Pictures as an index has them: float32[n, d] vectors and packed patches."""

    vectors: npt.NDArray[np.float32]
    packed: Packed

    def __add__(self, other: "Encoded") -> "Encoded":
        codes = np.concatenate([self.packed.codes, other.packed.codes])
        scales = np.concatenate([self.packed.scales, other.packed.scales])
        return Encoded(np.concatenate([self.vectors, other.vectors]), Packed(codes, scales))


def encoded(encoder: Encoder, projection: PatchProjection, pictures: Iterable[Pixels]) -> Encoded:
    """Encode and pack pictures of the encoder's size."""
    vectors, codes, scales = [], [], []
    pending = iter(pictures)
    while batch := list(itertools.islice(pending, 16)):
        result = encoder.encode(np.stack(batch), patches=True)
        assert result.patches is not None
        packed = projection.pack(result.patches)
        vectors.append(result.vectors)
        codes.append(packed.codes)
        scales.append(packed.scales)
    return Encoded(np.concatenate(vectors), Packed(np.concatenate(codes), np.concatenate(scales)))


@dataclass(frozen=True)
class Lists:
    """The candidates of queries: rows int64[q, k], scores float32[q, k], MaxSim one way and both ways, float32[q, k]."""

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    one: npt.NDArray[np.float32]
    both: npt.NDArray[np.float32]
    maxsim_ms: float


def candidates(index: Encoded, queries: Encoded, without: npt.NDArray[np.int64] | None = None) -> Lists:
    """The first stage's 50 of each query, exactly searched; `without` a row of the index for each query."""
    cosines = queries.vectors @ index.vectors.T
    if without is not None:
        cosines[np.arange(len(cosines)), without] = -2
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :CANDIDATES]
    one, both, took = [], [], []
    for number, mine in enumerate(rows):
        query = Packed(queries.packed.codes[number : number + 1], queries.packed.scales[number : number + 1])
        theirs = Packed(index.packed.codes[mine], index.packed.scales[mine])
        start = time.perf_counter()
        one.append(maxsim(query, theirs))
        took.append((time.perf_counter() - start) * 1000)
        both.append(maxsim(query, theirs, both=True))
    scores = np.take_along_axis(cosines, rows, axis=1)
    return Lists(rows, scores, np.stack(one), np.stack(both), float(np.median(took)))


def order(
    fusion: Fusion, scores: npt.NDArray[np.float32], signal: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """int64[q, k]: the places of each query's candidates, best first."""
    fused = [fusion.fused(s, {"maxsim": m}) for s, m in zip(scores, signal, strict=True)]
    return np.argsort(-np.stack(fused), axis=1, kind="stable")


@dataclass(frozen=True)
class Row:
    """A line of a table: a measure before and after, and its gain, over queries."""

    name: str
    before: float
    after: float
    gain: Interval
    more: str = ""

    def line(self) -> str:
        """As Markdown."""
        gain = f"{self.gain.mean:+.3f} ({self.gain.low:+.3f} … {self.gain.high:+.3f})"
        return f"| {self.name} | {self.before:.3f} | {self.after:.3f} | {gain} |{self.more}"


def measured(
    name: str,
    before: npt.NDArray[np.floating],
    after: npt.NDArray[np.floating],
    pictures: npt.NDArray[np.int64],
    more: str = "",
) -> Row:
    """A row whose interval is over pictures."""
    gains = per_picture(np.asarray(after, float) - np.asarray(before, float), pictures)
    return Row(name, float(before.mean()), float(after.mean()), bootstrap(gains), more)


class Collection:
    """One collection with its distractors, encoded."""

    def __init__(
        self, name: str, encoder: Encoder, projection: PatchProjection, distractors: Encoded
    ) -> None:
        found = fetch_collection(name, cache_folder() / "collections" / name)
        self.name = name
        self.files = [(found.root / item.path).read_bytes() for item in found.items]
        self.labels = {
            "category": [item.category for item in found.items],
            "product" if name == "furniture" else "folder": [
                str(item.metadata["name"] if name == "furniture" else item.path.parent)
                for item in found.items
            ],
        }
        self.own = encoded(encoder, projection, (prepared(data, encoder) for data in self.files))
        self.index = self.own + distractors
        self._encoder = encoder
        self._projection = projection

    def copies(self, count: int) -> tuple[dict[str, Lists], npt.NDArray[np.int64], dict[str, list[Pixels]]]:
        """Candidates of changed copies of `count` pictures by kind of change, the pictures, and the copies."""
        count = min(count, len(self.files))
        picked = np.sort(np.random.default_rng(1).permutation(len(self.files))[:count])
        rasters = [raster(self.files[place]) for place in picked]
        lists, pixels = {}, {}
        for name, change in AUGMENTATIONS.items():
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            pixels[name] = [change(picture, rng) for picture in rasters]
            files = map(as_file, pixels[name])
            ready = (prepared(data, self._encoder) for data in files)
            queries = encoded(self._encoder, self._projection, ready)
            lists[name] = candidates(self.index, queries)
        return lists, picked, pixels

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - a collection lives as long as the measurement
    def keypoints(self, row: int) -> Keypoints | None:
        """Of a row of the index; None for a distractor, which has other pictures' features at best."""
        return keypoints(raster(self.files[row])) if row < len(self.files) else None


def measure(collection: Collection, count: int) -> None:
    """Print the tables of one collection."""
    lists, picked, pixels = collection.copies(count)
    names = list(lists)
    judged, of = [], []
    for name in names:
        for number, picture in enumerate(picked):
            found = lists[name]
            scores = np.stack([found.scores[number], found.one[number]], axis=1)
            judged.append(Judged(scores, found.rows[number] == picture))
            of.append(int(picture))
    trial = run_trial(["maxsim"], judged, of)
    held = ~halves(picked.astype(np.int64))
    print(f"\n## {collection.name}: {len(collection.files)} pictures and {_DISTRACTORS} pieces of clip art\n")
    weights = trial.fusion.to_json()["weights"]
    print(f"weights {weights}, fitted on {int((~held).sum())} pictures; verdict: {trial.decision.reason}\n")
    _copies(collection, lists, picked, held, trial.fusion, pixels)
    _labels(collection, trial.fusion, held, picked)
    timing = float(np.median([found.maxsim_ms for found in lists.values()]))
    print(f"\nMaxSim of {CANDIDATES} candidates: {timing:.1f} ms on one thread")


def _copies(
    collection: Collection,
    lists: dict[str, Lists],
    picked: npt.NDArray[np.int64],
    held: npt.NDArray[np.bool_],
    fusion: Fusion,
    pixels: dict[str, list[Pixels]],
) -> None:
    print("| copies: recall@1 | first stage | reranked | gain (95 % interval) | both ways | exact |")
    print("|---|---|---|---|---|---|")
    every: dict[str, list[npt.NDArray[np.bool_]]] = {"before": [], "after": [], "both": [], "exact": []}
    for name, found in lists.items():
        relevant = (found.rows == picked[:, None])[held]
        arranged = order(fusion, found.scores[held], found.one[held])
        two_way = order(fusion, found.scores[held], found.both[held])
        after = np.take_along_axis(relevant, arranged, 1)[:, 0]
        both = np.take_along_axis(relevant, two_way, 1)[:, 0]
        exact = _exact(
            collection,
            found.rows[held],
            arranged,
            relevant,
            [p for p, h in zip(pixels[name], held, strict=True) if h],
        )
        for key, values in zip(every, (relevant[:, 0], after, both, exact), strict=True):
            every[key].append(values)
        more = f" {both.mean():.3f} | {exact.mean():.3f} |"
        print(measured(name, relevant[:, 0], after, picked[held], more).line(), flush=True)
    whole = {key: np.concatenate(values) for key, values in every.items()}
    pictures = np.tile(picked[held], len(lists))
    more = f" {whole['both'].mean():.3f} | {whole['exact'].mean():.3f} |"
    print(measured("**all**", whole["before"], whole["after"], pictures, more).line())


def _exact(
    collection: Collection,
    rows: npt.NDArray[np.int64],
    arranged: npt.NDArray[np.int64],
    relevant: npt.NDArray[np.bool_],
    queries: Sequence[Pixels],
) -> npt.NDArray[np.bool_]:
    """Whether the picture itself comes first once the first ten are verified."""
    first = []
    for mine, places, is_it, picture in zip(rows, arranged, relevant, queries, strict=True):
        ours = keypoints(picture)
        theirs = [collection.keypoints(int(mine[place])) for place in places[:VERIFIED]]
        counts = [0 if one is None else inliers(ours, one) for one in theirs]
        first.append(bool(is_it[places[verified_first(counts)[0]]]))
    return np.array(first)


def _labels(
    collection: Collection, fusion: Fusion, held: npt.NDArray[np.bool_], picked: npt.NDArray[np.int64]
) -> None:
    """Every picture that nothing was fitted on finds others of its label in the collection."""
    own = collection.own
    queries = np.setdiff1d(np.arange(len(collection.files)), picked[~held])
    asked = Encoded(own.vectors[queries], Packed(own.packed.codes[queries], own.packed.scales[queries]))
    found = candidates(own, asked, without=queries)
    arranged = order(fusion, found.scores, found.one)
    print("\n| the same label | first stage | reranked | gain (95 % interval) |")
    print("|---|---|---|---|")
    for label, values in collection.labels.items():
        names = np.array(values)
        has = np.array([(names == names[query]).sum() > 1 for query in queries])
        relevant = (names[found.rows] == names[queries][:, None])[has]
        after = np.take_along_axis(relevant, arranged[has], 1)
        for depth in (1, 5):
            before_at, after_at = relevant[:, :depth].mean(axis=1), after[:, :depth].mean(axis=1)
            print(
                measured(f"{label}, P@{depth} ({int(has.sum())})", before_at, after_at, queries[has]).line(),
                flush=True,
            )


def fit() -> None:
    """Fit and write the projection that ships."""
    encoder = load_unprojected(EncoderSpec(), cache_dir=cache_folder() / "encoders", threads=2)
    projection = fit_patch_projection(encoder, clip_art(encoder, 0, _FITTED))
    projection.save(_SHIPPED)
    print(f"{_SHIPPED}: {projection.fingerprint}")


def main() -> None:
    """Parse the command line and measure, or fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("measure", "fit"), default="measure")
    parser.add_argument("--short", action="store_true", help="60 pictures a collection instead of 240")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.what == "fit":
        fit()
        return
    encoder = load_encoder(EncoderSpec(), cache_dir=cache_folder() / "encoders", threads=2)
    projection = shipped_projection(encoder.backbone)
    assert projection is not None, "no projection ships for this encoder: run `fit`"
    distractors = encoded(encoder, projection, clip_art(encoder, 2 * _FITTED, _DISTRACTORS))
    for name in ("furniture", "stamps"):
        measure(Collection(name, encoder, projection, distractors), 60 if arguments.short else 240)


if __name__ == "__main__":
    main()
