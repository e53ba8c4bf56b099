"""The index engine beside its peers, in one table: `make bench-engine`.

    python -m benchmarks.engine [--full] [--data clustered real] [--only faiss_alone …] [--grow] [--profile] [--coefficients]

Short by default: 20,000 clustered vectors of 512 numbers and 5,000 real embeddings. `--full` takes 200,000 and 50,000, and
an hour or two of a quiet machine. Every engine runs alone, after the others, in a process of its own; peers in an
environment of their own (`.venv-peers`). The same graph (M 32, efConstruction 120) everywhere; each engine's search effort
is the least of its ladder that reaches recall@10 of 0.95 against exact search, for filtered searches on its own again.
Latency is one caller's; the rate is of two threads in process, of 16 connections at a server, by wrk over HTTP.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import coefficients
from benchmarks.engine import environment, grow, profile
from benchmarks.engine.embeddings import embedded
from benchmarks.engine.table import table
from benchmarks.engine.vectors import Dataset, clustered, divided, intrinsic_dimension
from benchmarks.stack import end_on_signals

OURS = ("ours", "ours_service")
ENGINES = (
    "ours",
    "faiss_alone",
    "hnswlib_peer",
    "usearch_peer",
    "qdrant_edge_peer",
    "lancedb_peer",
    "milvus_lite_peer",
    "pgvector_peer",
    "chroma_peer",
    "ours_service",
)
DIMENSION = 512
_QUERIES, _SPARE = 1_000, 200
_LIMIT_S = 3 * 3600


def dataset(name: str, rows: int, cache: Path) -> tuple[Path, Dataset]:
    """The folder of a data set in the cache and what is in it, made when it is not there."""
    folder = cache / f"{name}-{rows}"
    if not (folder / "filtered_truth.npy").is_file():
        print(f"making {folder}", file=sys.stderr)
        whole = rows + _QUERIES + _SPARE
        threads = os.cpu_count() or 1
        made = clustered(whole, DIMENSION) if name == "clustered" else embedded(whole, cache, threads)
        divided(*made, queries=_QUERIES, spare=_SPARE, seed=3).write(folder)
    return folder, Dataset.read(folder)


def about(name: str, data: Dataset) -> str:
    """What a table's data are, in a heading and a line."""
    rows, dimension = data.vectors.shape
    share = float(np.mean([(data.labels == label).mean() for label in np.unique(data.asked)]))
    return (
        f"## {name}: {rows:,} x {dimension}\n\nIntrinsic dimension {intrinsic_dimension(data.vectors):.1f} (TwoNN); "
        f"filters leave {100 * share:.1f} % of the rows; {len(data.queries):,} queries held out; {os.cpu_count()} CPUs.\n"
    )


def row_of(engine: str, folder: Path, seconds: float, writes: int) -> dict[str, Any]:
    """One engine's row, or its name and what went wrong."""
    interpreter = Path(sys.executable) if engine in OURS else environment.python()
    with tempfile.TemporaryDirectory() as out:
        result, log = Path(out) / "row.json", Path(out) / "log"
        command = [str(interpreter), "-m", "benchmarks.engine.peer", engine, str(folder), str(result)]
        command += ["--seconds", str(seconds), "--inserts", str(writes)]
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.run(
                command, cwd=environment.ROOT, stdout=output, stderr=output, timeout=_LIMIT_S, check=False
            )
        print(f"{engine}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        if process.returncode or not result.is_file():
            said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
            return {"name": engine, "error": f"it ended with {process.returncode}: {said[-1]}"}
        row: dict[str, Any] = json.loads(result.read_text())
        return row


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the sizes that count")
    parser.add_argument("--data", nargs="+", choices=("clustered", "real"), default=["clustered", "real"])
    parser.add_argument("--rows", type=int, help="rows of each data set")
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=ENGINES, help="engines to measure")
    parser.add_argument("--seconds", type=float, help="length of each load (2, with --full 10)")
    parser.add_argument("--writes", type=int, default=50, help="single inserts and deletes")
    parser.add_argument("--grow", action="store_true", help="what it costs as it grows, instead")
    parser.add_argument(
        "--profile", action="store_true", help="the service's searches by process and function, instead"
    )
    parser.add_argument(
        "--coefficients",
        action="store_true",
        help="the figures that `visualindex plan` computes with, instead",
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("build/bench-engine"), help="folder of the data sets"
    )
    parser.add_argument("--json", type=Path, help="file to write all rows to")
    return parser.parse_args()


def main() -> None:
    """Measure every engine on every data set and print the tables."""
    end_on_signals()
    asked = _arguments()
    seconds = asked.seconds or (10.0 if asked.full else 2.0)
    if asked.coefficients:
        coefficients.run(
            20_000, [10_000, 20_000, 40_000] if asked.full else [5_000, 10_000, 20_000], asked.json
        )
        return
    if asked.grow:
        grow.run(asked.full, seconds)
        return
    sizes = {"clustered": 200_000, "real": 50_000} if asked.full else {"clustered": 20_000, "real": 5_000}
    every: dict[str, list[dict[str, Any]]] = {}
    for name in asked.data:
        folder, data = dataset(name, asked.rows or sizes[name], asked.cache)
        if asked.profile:
            profile.run(data, seconds)
            continue
        print(about(name, data), flush=True)
        every[name] = []
        for engine in asked.only:
            every[name].append(row_of(engine, folder, seconds, asked.writes))
            if asked.json:
                asked.json.write_text(json.dumps(every, indent=2))
        print(table(every[name]) + "\n", flush=True)


if __name__ == "__main__":
    main()
