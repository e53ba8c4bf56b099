"""What filters cost on mapped attribute columns: `python -m benchmarks.attributes --rows 1000000`.

Beside each mask stands the plain numpy pass that a program with the one field in an array of its own would make. Both
are timed in turn, in one process; times are medians.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from visualindex.ann.attribute_columns import AttributeColumns
from visualindex.ann.attributes import Fields, fields
from visualindex.filters import parse_filter

CATEGORIES, COLOURS, ROUNDS = 200, ["red", "blue", "green", "black", "white", "grey", "oak", "beech"], 9


def documents(rows: int) -> Iterator[Fields]:
    """Products as shops describe them; every row its own key."""
    chance = np.random.default_rng(7)
    categories, prices = chance.integers(CATEGORIES, size=rows), chance.integers(100_000, size=rows)
    colours = chance.integers(len(COLOURS), size=(rows, 2))
    for at in range(rows):
        yield fields(
            {
                "category": f"category {categories[at]}",
                "key": f"sku-{at:09d}",
                "metadata": {
                    "price": int(prices[at]) / 100,
                    "stock": int(prices[at]) % 50,
                    "tags": [COLOURS[colour] for colour in colours[at]],
                    "sale": bool(prices[at] % 2),
                },
            }
        )


def interleaved(*functions: Callable[[], Any]) -> list[float]:
    """Median seconds of each, called in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for at, function in enumerate(functions):
            started = time.perf_counter()
            function()
            times[at].append(time.perf_counter() - started)
    return [statistics.median(one) for one in times]


def baselines(rows: int) -> dict[str, tuple[dict[str, Any], Callable[[], NDArray[np.bool_]]]]:
    """Filters and what numpy makes of the same on arrays that hold nothing else."""
    chance = np.random.default_rng(7)
    categories, cents = (
        chance.integers(CATEGORIES, size=rows).astype(np.int32),
        chance.integers(100_000, size=rows),
    )
    prices = cents / 100
    return {
        "category = one of 200": ({"eq": {"category": "category 17"}}, lambda: categories == 17),
        "price below half": ({"range": {"metadata.price": {"lt": 500}}}, lambda: prices < 500),
        "price 1e-3": ({"range": {"metadata.price": {"lt": 1}}}, lambda: prices < 1),
        "category and price": (
            {"eq": {"category": "category 17"}, "range": {"metadata.price": {"lt": 500}}},
            lambda: (categories == 17) & (prices < 500),
        ),
        "not category": ({"not": {"eq": {"category": "category 17"}}}, lambda: categories != 17),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "attributes.arrow"
        started = time.perf_counter()
        AttributeColumns.build(documents(rows)).write(path)
        print(f"{rows:,} rows built and written in {time.perf_counter() - started:.1f} s,", end=" ")
        print(f"{path.stat().st_size / rows:.0f} bytes a row")
        measure(path, rows)


def measure(path: Path, rows: int) -> None:
    """Print what opening, masks, rare rows and facets of the file cost."""
    before = psutil.Process().memory_full_info().uss
    started = time.perf_counter()
    columns = AttributeColumns.open(path, rows)
    opened = time.perf_counter() - started
    held = psutil.Process().memory_full_info().uss - before
    print(f"opened in {opened * 1e3:.1f} ms, {held / 1024:.0f} KiB of its own")
    print(
        f"{'filter':24} {'passing':>9} {'estimate':>17} {'mask ms':>8} {'numpy ms':>9} {'rare rows ms':>13}"
    )
    for name, (document, plain) in baselines(rows).items():
        tree = parse_filter(document)
        mask = columns.mask(tree, rows)
        assert np.array_equal(mask, plain())
        least, most = columns.estimate(tree)
        few = columns.matching(tree, rows, rows // 50)
        took = interleaved(
            lambda tree=tree: columns.mask(tree, rows),
            plain,
            lambda tree=tree: columns.matching(tree, rows, rows // 50),
        )
        told = f"{took[2] * 1e3:13.3f}" if few is not None else f"{'-':>13}"
        print(
            f"{name:24} {np.count_nonzero(mask):9,} {f'{least:,}..{most:,}':>17}",
            f"{took[0] * 1e3:8.3f} {took[1] * 1e3:9.3f} {told}",
        )
    everything, hits = np.ones(rows, np.bool_), np.arange(0, rows, max(1, rows // 200))
    key = parse_filter({"eq": {"key": f"sku-{rows // 2:09d}"}})
    for name, call in (
        ("facet of 200 categories over all rows", lambda: columns.facet("category", everything)),
        ("facet of tags (two a row) over all rows", lambda: columns.facet("metadata.tags", everything)),
        ("values of 200 hits", lambda: columns.values("metadata.tags", hits)),
        ("one row by key", lambda: columns.matching(key, rows, 10)),
        ("estimate of a key", lambda: columns.estimate(key)),
    ):
        print(f"{name}: {interleaved(call)[0] * 1e3:.3f} ms")


if __name__ == "__main__":
    sys.exit(main())
