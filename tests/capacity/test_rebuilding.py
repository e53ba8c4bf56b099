"""What a rebuild takes: its formulas against each other, against real chunks, and as docs/reindexing-at-size.md has them."""

import os
import re
import uuid
from pathlib import Path

import pytest
import yaml

from visualindex.capacity.coefficients import DEFAULTS
from visualindex.capacity.rebuilding import Rebuild, ledger_bytes, rebuild
from visualindex.capacity.wording import duration, hours, size
from visualindex.catalog import Encoded
from visualindex.footprint import PATCH_ROW_BYTES
from visualindex.reindexing.chunks import Account, Done, Todo, pack_done, pack_todo
from visualindex.spec.models import Spec

PAGE = (Path(__file__).parents[2] / "docs/reindexing-at-size.md").read_text()
IMAGES = 200_000_000


def spec(**fields: object) -> Spec:
    return Spec.model_validate(fields)


def test_a_gpu_takes_the_encoding_off_the_cpus() -> None:
    torch = {"family": "timm", "model": "resnet50", "checkpoint": "hub:a1_in1k", "dimension": 512}
    on_cpu = rebuild(spec(encoder=torch), 1_000_000, DEFAULTS)
    on_gpu = rebuild(spec(encoder={**torch, "num_gpus": 1}), 1_000_000, DEFAULTS)
    assert (on_cpu.gpu_s, on_gpu.gpu_s) == (0, 1_000_000 / DEFAULTS.gpu_images_per_s)
    assert on_cpu.cpu_s - on_gpu.cpu_s == pytest.approx(1_000_000 * DEFAULTS.torch_cpu_s)


def test_more_workers_take_less_time_and_the_same_money() -> None:
    prices = {"cpu_hour": 0.02, "gpu_hour": 0.6}
    one, four = (
        rebuild(spec(reindex={"workers": workers, "prices": prices}), 1_000_000, DEFAULTS)
        for workers in (1, 4)
    )
    assert one.wall_s == pytest.approx(4 * four.wall_s)
    assert one.paid_cost == pytest.approx(four.paid_cost)
    assert one.busy_cost == one.cpu_s / 3600 * 0.02


def test_beyond_what_one_driver_commits_more_workers_are_of_no_use() -> None:
    most = rebuild(spec(reindex={"workers": 1024, "cpus": 64}), 1_000_000, DEFAULTS)
    assert most.wall_s == 1_000_000 / DEFAULTS.commit_rows_per_s


def test_a_gpu_waits_where_too_few_cpus_decode_for_it() -> None:
    encoder = {"family": "timm", "model": "resnet50", "checkpoint": "hub:a1_in1k", "num_gpus": 1}
    few, many = (
        rebuild(spec(encoder=encoder, reindex={"decode_workers": count}), 1_000_000, DEFAULTS)
        for count in (2, 32)
    )
    assert few.wall_s > many.wall_s == many.gpu_s


@pytest.mark.parametrize("patches", [False, True])
@pytest.mark.parametrize("chunk", [64, 256, 1024])
def test_the_ledger_takes_what_its_objects_take(patches: bool, chunk: int) -> None:
    dimension, packed = 128, os.urandom(PATCH_ROW_BYTES) if patches else None
    todo = [Todo(uuid.uuid4(), os.urandom(32), encode=True, colours=True) for _ in range(chunk)]
    vector, colours = os.urandom(2 * dimension), os.urandom(16)
    done = [Encoded(one.image_id, one.digest, vector, colours, packed) for one in todo]
    real = len(pack_todo(todo)) + len(pack_done(Done(done, [], Account(chunk, chunk, 1, 1.0, 1.0, 0))))
    kept = {"mode": "always" if patches else "never"}
    of = spec(encoder={"dimension": dimension}, rerank=kept, reindex={"chunk_images": chunk})
    assert ledger_bytes(of, chunk, DEFAULTS) == pytest.approx(real, rel=0.02)


def test_the_page_says_what_the_formulas_say() -> None:
    """Its specs are read from it, so that the figures are those of what it shows."""
    missing = [row for row in _rows() if row not in PAGE]
    assert missing == []


def _rows() -> list[str]:
    specs = [
        Spec.model_validate(yaml.safe_load(text)["spec"])
        for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    ]
    assert specs, "the page shows no spec"
    return [
        _row(of.model_copy(update={"reindex": of.reindex.model_copy(update={"workers": workers})}))
        for of in specs
        for workers in (1, 4, 16, 64)
    ]


def _row(of: Spec) -> str:
    found = rebuild(of, IMAGES, DEFAULTS)
    cells = [*_figures(found), f"{found.paid_cost:,.0f}"]
    return f"| {' | '.join(cells)} |"


def _figures(found: Rebuild) -> list[str]:
    return [
        str(found.workers),
        f"{found.cpus:g}",
        hours(found.gpu_s),
        hours(found.cpu_s),
        duration(found.wall_s),
        size(found.ledger_bytes),
        f"{found.ledger_objects:,}",
        f"{found.gets / 1e6:.1f}M",
        f"{found.puts:,}",
    ]
