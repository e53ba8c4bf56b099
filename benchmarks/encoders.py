"""Measures the bundled encoder: speed by runtime, what a projection costs in retrieval, and fits the shipped projection.

    python benchmarks/encoders.py speed
    python benchmarks/encoders.py compare
    python benchmarks/encoders.py retrieval --collections FOLDER
    python benchmarks/encoders.py fit --collections FOLDER --out core/visualindex/encoders/data/efficientnet-lite0.npz

FOLDER holds the unpacked (`dpkg -x`) Debian packages openclipart-png, tuxpaint-stamps-default and
sweethome3d-furniture. The projection is fitted on the first two only, and judged on furniture.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from visualindex.encoders import Encoder, Parallelism, load_encoder, load_unprojected
from visualindex.encoders.base import l2_normalise
from visualindex.encoders.projection import Projection, fit_vectors
from visualindex.errors import ProblemError
from visualindex.imaging.decoding import decode
from visualindex.imaging.jobs import Bounds, DecodeJob
from visualindex.spec.models import EncoderSpec, LimitsSpec

RUNTIMES = ("openvino", "onnxruntime", "torch")
CACHE = Path(tempfile.gettempdir()) / "visualindex-benchmark"


@dataclass(frozen=True)
class Picture:
    """One file of a collection with its labels."""

    data: bytes
    category: str
    name: str


def pictures(root: Path, collection: str) -> Iterator[Picture]:
    """The pictures of a collection in a stable order."""
    share = root / "usr/share"
    if collection == "furniture":
        yield from _furniture(share / "sweethome3d/furniture")
    elif collection == "stamps":
        yield from _folder(share / "tuxpaint/stamps", captioned=True)
    else:
        yield from _folder(share / "openclipart/png", captioned=False)


def _folder(top: Path, *, captioned: bool) -> Iterator[Picture]:
    for path in sorted(top.rglob("*.png")):
        if not captioned or path.with_suffix(".txt").is_file():
            yield Picture(path.read_bytes(), path.relative_to(top).parts[0], path.stem)


def _furniture(folder: Path) -> Iterator[Picture]:
    for path in sorted(folder.glob("*.sh3f")):
        with zipfile.ZipFile(path) as archive:
            lines = archive.read("PluginFurnitureCatalog.properties").decode("latin-1").splitlines()
            facts = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
            for number in sorted(int(key.removeprefix("icon#")) for key in facts if key.startswith("icon#")):
                icon = archive.read(facts[f"icon#{number}"].lstrip("/"))
                yield Picture(icon, facts[f"category#{number}"], facts[f"name#{number}"])


@dataclass(frozen=True)
class Embedded:
    """A collection's unprojected vectors, float32[n, 1280], and labels."""

    vectors: npt.NDArray[np.float32]
    categories: list[str]
    names: list[str]


def embedded(encoder: Encoder, root: Path, collection: str) -> Embedded:
    """Decode and encode a collection, or read what an earlier run kept."""
    kept = CACHE / f"{collection}-{encoder.fingerprint}.npz"
    if not kept.is_file():
        _embed(encoder, root, collection, kept)
    with np.load(kept) as arrays:
        return Embedded(arrays["vectors"], arrays["categories"].tolist(), arrays["names"].tolist())


def _embed(encoder: Encoder, root: Path, collection: str, kept: Path) -> None:
    rows = [row for picture in pictures(root, collection) if (row := _row(encoder, picture)) is not None]
    vectors, categories, names = zip(*rows, strict=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez(kept, vectors=np.stack(vectors), categories=categories, names=names)


def _row(encoder: Encoder, picture: Picture) -> tuple[npt.NDArray[np.float32], str, str] | None:
    bounds = Bounds.of(LimitsSpec(image_pixels=40_000_000))
    try:
        pixels = decode(DecodeJob(picture.data, encoder.input), bounds).pixels
    except ProblemError as e:
        print(f"left out {picture.name}: {e.detail}", file=sys.stderr)
        return None
    assert pixels is not None
    return encoder.encode(pixels[None]).vectors[0], picture.category, picture.name


def training(encoder: Encoder, root: Path) -> npt.NDArray[np.float32]:
    """The vectors the projection is fitted on."""
    return np.concatenate([embedded(encoder, root, name).vectors for name in ("clipart", "stamps")])


def fit(root: Path, out: Path) -> None:
    """Fit and write the projection that ships."""
    with_model = _unprojected()
    vectors = training(with_model, root)
    projection = fit_vectors(with_model.fingerprint, np.array_split(vectors, 64))
    out.parent.mkdir(parents=True, exist_ok=True)
    projection.save(out)
    explained = [f"{rows}: {projection.explained[:rows].sum():.3f}" for rows in (64, 128, 256, 512)]
    print(
        f"{out}: {out.stat().st_size} bytes from {len(vectors)} images; variance kept {', '.join(explained)}"
    )


def retrieval(root: Path) -> None:
    """Leave-one-out quality on furniture with a projection that never saw it."""
    with_model = _unprojected()
    projection = fit_vectors(with_model.fingerprint, np.array_split(training(with_model, root), 64))
    furniture = embedded(with_model, root, "furniture")
    print(f"{len(furniture.names)} pictures, {len(set(furniture.categories))} categories")
    print("| dimension | category P@1 | P@5 | P@10 | mAP | name P@1 | name mAP |")
    print("|---|---|---|---|---|---|---|")
    for label, vectors in _variants(furniture.vectors, projection):
        by_category = _quality(vectors, furniture.categories)
        by_name = _quality(vectors, furniture.names)
        figures = [by_category["P@1"], by_category["P@5"], by_category["P@10"], by_category["mAP"]]
        cells = [f"{x:.3f}" for x in (*figures, by_name["P@1"], by_name["mAP"])]
        print(f"| {label} | {' | '.join(cells)} |")


def _variants(
    vectors: npt.NDArray[np.float32], projection: Projection
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    yield "1280 (no projection)", vectors
    for rows in (512, 256, 128, 64):
        yield str(rows), projection.truncated(rows).apply(vectors)
    whole = Projection(projection.encoder, 0 * projection.mean, projection.components, projection.explained)
    yield "256, not centred", l2_normalise(whole.truncated(256).apply(vectors))


def _quality(vectors: npt.NDArray[np.float32], labels: list[str]) -> dict[str, float]:
    """Precision at 1, 5 and 10 and mean average precision, each over the queries that have a partner."""
    _, codes = np.unique(labels, return_inverse=True)
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    hits = codes[ranked] == codes[:, None]
    hits = hits[hits.any(axis=1)]
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    found = {f"P@{k}": float(precision[:, k - 1].mean()) for k in (1, 5, 10)}
    return {**found, "mAP": float(((precision * hits).sum(axis=1) / hits.sum(axis=1)).mean())}


def _unprojected() -> Encoder:
    return load_unprojected(EncoderSpec(), cache_dir=CACHE, threads=2)


def speed(rounds: int) -> None:
    """A table of every runtime, each in a process of its own so that memory is its own."""
    print("| runtime | threads | load s | RSS MB | batch 1 | batch 8 | batch 32 | 2 callers, throughput |")
    print("|---|---|---|---|---|---|---|---|")
    for runtime, threads in itertools.product(RUNTIMES, (1, 2)):
        command = [sys.executable, __file__, "one", "--runtime", runtime, "--threads", str(threads)]
        done = subprocess.run([*command, "--rounds", str(rounds)], check=True, capture_output=True, text=True)
        print(done.stdout.strip().splitlines()[-1], flush=True)


def compare(rounds: int) -> None:
    """The CPU runtimes call by call in turn, so that a busy machine is equally busy for both."""
    encoders = {r: load_encoder(_spec(r), cache_dir=CACHE, threads=2) for r in ("onnxruntime", "openvino")}
    lone: dict[str, list[float]] = {runtime: [] for runtime in encoders}
    pair: dict[str, list[tuple[float, float]]] = {runtime: [] for runtime in encoders}
    for _ in range(rounds):
        for runtime, encoder in encoders.items():
            lone[runtime] += [_timed(encoder, 1, "latency")[0] for _ in range(3)]
            pair[runtime].append(_timed(encoder, 6, "throughput"))
    print(
        "| runtime | lone call, 2 threads: best, p10 | 2 callers, ms per image: best, p10 | CPU: best, median |"
    )
    print("|---|---|---|---|")
    for runtime in encoders:
        wall, cpu = zip(*pair[runtime], strict=True)
        alone = f"{min(lone[runtime]):.1f}, {np.percentile(lone[runtime], 10):.1f}"
        both = f"{min(wall):.1f}, {np.percentile(wall, 10):.1f}"
        print(f"| {runtime} | {alone} | {both} | {min(cpu):.1f}, {np.median(cpu):.1f} |")


def _timed(encoder: Encoder, calls: int, parallelism: Parallelism) -> tuple[float, float]:
    """Wall and CPU milliseconds per image of `calls` one-image calls by two callers."""
    images = _noise(encoder, 1)
    with ThreadPoolExecutor(2) as pool:
        started, busy = time.perf_counter(), time.process_time()
        list(pool.map(lambda _: encoder.encode(images, parallelism=parallelism), range(calls)))
        wall, cpu = time.perf_counter() - started, time.process_time() - busy
    return wall * 1000 / calls, cpu * 1000 / calls


def _spec(runtime: str) -> EncoderSpec:
    return EncoderSpec.model_validate({"runtime": runtime})


def one(runtime: str, threads: int, rounds: int) -> None:
    """One row of the table: milliseconds per image, the best of many calls, as a quiet machine gives."""
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    encoder = load_encoder(_spec(runtime), cache_dir=CACHE, threads=threads)
    encoder.encode(_noise(encoder, 1))
    loaded = time.perf_counter() - started
    memory = (psutil.Process().memory_info().rss - before) / 1e6
    times = [_per_image(encoder, batch, rounds) for batch in (1, 8, 32)]
    cells = [runtime, str(threads), f"{loaded:.2f}", f"{memory:.0f}", *times]
    print(f"| {' | '.join(cells)} | {_side_by_side(encoder, 2, rounds):.1f} |")


def _per_image(encoder: Encoder, batch: int, rounds: int) -> str:
    """Wall and CPU milliseconds per image; the CPU time also tells on a machine that others use."""
    images, times = _noise(encoder, batch), []
    for _ in range(max(6, rounds // batch)):
        started, busy = time.perf_counter(), time.process_time()
        encoder.encode(images)
        wall, cpu = time.perf_counter() - started, time.process_time() - busy
        times.append((wall * 1000 / batch, cpu * 1000 / batch))
    return f"{min(wall for wall, _ in times):.1f} / {min(cpu for _, cpu in times):.1f}"


def _side_by_side(encoder: Encoder, callers: int, rounds: int) -> float:
    """Milliseconds per image of the whole when `callers` threads encode one image at a time."""
    images, times = _noise(encoder, 1), []
    with ThreadPoolExecutor(callers) as pool:
        for _ in range(rounds):
            started = time.perf_counter()
            list(pool.map(lambda _: encoder.encode(images, parallelism="throughput"), range(4 * callers)))
            times.append((time.perf_counter() - started) * 1000 / (4 * callers))
    return min(times)


def _noise(encoder: Encoder, batch: int) -> npt.NDArray[np.uint8]:
    shape = (batch, encoder.input.height, encoder.input.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["speed", "compare", "one", "retrieval", "fit"])
    parser.add_argument("--collections", type=Path, help="folder with the unpacked Debian packages")
    parser.add_argument("--out", type=Path, help="where `fit` writes")
    parser.add_argument("--runtime", choices=RUNTIMES, default="openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=32)
    return parser.parse_args()


def main() -> None:
    """Run one command."""
    args = _arguments()
    if args.command == "speed":
        speed(args.rounds)
    elif args.command == "compare":
        compare(args.rounds)
    elif args.command == "one":
        one(args.runtime, args.threads, args.rounds)
    elif args.command == "retrieval":
        retrieval(args.collections)
    else:
        fit(args.collections, args.out)


if __name__ == "__main__":
    main()
