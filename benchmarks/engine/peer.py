"""What an engine has to offer to be measured; its module under `peers` fills this in, in an environment of its own.

    .venv-peers/bin/python -m benchmarks.engine.peer NAME DATASET RESULT.json [--seconds 3]     (what the table's run starts)

Numpy and the standard library only, besides the engine itself.
"""

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from benchmarks.engine.vectors import Dataset, Numbers, Vectors

M = 32
EF_CONSTRUCTION = 120
"""The graph of every engine that builds one; its search effort is its own."""

EFFORTS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
THREADS = 2
"""Of the build, and of an in-process engine's throughput."""
_TURN_S = 0.0005
"""How long Python lets a thread go on while another waits: as long as in our service, and the same for every engine."""


class Searched(Protocol):
    """What can be searched, from several threads, one query each."""

    name: str
    efforts: Sequence[int]
    """Search efforts by rising cost, of which the least is taken that reaches the recall."""

    def tune(self, effort: int) -> None:
        """Search with this effort from now on."""

    def search(self, query: Vectors, label: int | None, k: int) -> Numbers | None:
        """The rows nearest to `query` float32[d], of a label alone if one is given; None when it cannot filter."""


class Peer(Searched, Protocol):
    """An engine in this process or a server it started."""

    version: str
    note: str
    """How it was set up, in a few words: index, durability, what it filters with."""

    def build(self, data: Dataset) -> None:
        """Take in all rows with their labels and index them; returns when searches use the index."""

    def insert(self, row: int, vector: Vectors, label: int) -> None:
        """Add a row; returns when the engine acknowledges it."""

    def delete(self, row: int) -> None:
        """Remove a row; returns when the engine acknowledges it."""

    def processes(self) -> Sequence[int]:
        """The ids of the processes whose memory is the engine's."""

    def close(self) -> None:
        """End what it started."""


class HttpPeer(Peer, Protocol):
    """A server that is searched over HTTP, where a load generator takes the place of threads."""

    url: str

    def request(self, queries: Vectors, labels: Numbers | None) -> tuple[str, Sequence[bytes]]:
        """The path, and the JSON body for each query."""


def arguments() -> argparse.Namespace:
    """What a peer's process is told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="a module of benchmarks.engine.peers")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each load")
    parser.add_argument("--inserts", type=int, default=50, help="single inserts and deletes")
    return parser.parse_args()


def main() -> None:
    """Measure one engine and write its row."""
    from benchmarks.engine.measure import measured

    asked = arguments()
    sys.setswitchinterval(_TURN_S)
    module = importlib.import_module(f"benchmarks.engine.peers.{asked.name}")
    data = Dataset.read(asked.dataset)
    with tempfile.TemporaryDirectory(prefix=f"vi-{asked.name}-") as folder:
        peer: Peer = module.Engine(Path(folder))
        try:
            row = measured(peer, data, Path(folder), asked.seconds, asked.inserts)
        finally:
            peer.close()
    asked.result.write_text(json.dumps(asdict(row)))
    print(f"{row.name}: {json.dumps(asdict(row))}", file=sys.stderr)


if __name__ == "__main__":
    main()
