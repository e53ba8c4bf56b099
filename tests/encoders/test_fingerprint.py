"""A fingerprint names a vector space: it moves with everything that moves vectors, and with nothing else."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from visualindex.encoders import EncoderConfigError, fingerprint_of, load_encoder
from visualindex.encoders.lite0 import bundled_weights
from visualindex.encoders.projection import fit_vectors
from visualindex.spec.models import EncoderSpec


def _of(cache_dir: Path, **fields: object) -> str:
    return fingerprint_of(EncoderSpec.model_validate(fields), cache_dir)


def test_is_known_without_loading(tmp_path: Path) -> None:
    """The planner's fingerprint equals the serving encoder's, and costs no model file."""
    known = fingerprint_of(EncoderSpec(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert known == load_encoder(EncoderSpec(), cache_dir=tmp_path).fingerprint
    assert len(known) == 16


def test_of_the_default_encoder_is_stable(cache_dir: Path) -> None:
    """Vectors that users stored must stay valid: a change of this value orphans every default index."""
    assert _of(cache_dir) == "4298c3f45e8b74ef"


def test_moves_with_dimension(cache_dir: Path) -> None:
    """256, 128 and no projection are three spaces."""
    assert len({_of(cache_dir, dimension=d) for d in (1280, 256, 128)}) == 3


def test_ignores_how_it_runs(cache_dir: Path) -> None:
    """Runtime, batch size, replicas and placement leave the space as it is."""
    same: list[dict[str, object]] = [
        {},
        {"runtime": "onnxruntime"},
        {"max_batch_size": 7},
        {"replicas": 5},
        {"placement": "deployment"},
    ]
    assert len({_of(cache_dir, **fields) for fields in same}) == 1


def test_moves_with_weights(tmp_path: Path) -> None:
    """A copy of the weights under another name is the same space; one changed bit is another."""
    copy = tmp_path / "copy.pth"
    shutil.copy(bundled_weights(), copy)
    assert _of(tmp_path, dimension=1280, checkpoint=str(copy)) == _of(tmp_path, dimension=1280)
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    assert _of(tmp_path, dimension=1280, checkpoint=str(copy)) != _of(tmp_path, dimension=1280)


def test_moves_with_the_projection(tmp_path: Path) -> None:
    """Two fits of one dimension are two spaces."""
    model = _of(tmp_path, dimension=1280)
    found = set()
    for seed in (1, 2):
        vectors = np.random.default_rng(seed).normal(size=(64, 1280)).astype(np.float32)
        path = tmp_path / f"{seed}.npz"
        fit_vectors(model, [vectors], rows=32).save(path)
        found.add(_of(tmp_path, dimension=16, projection=str(path)))
    assert len(found) == 2


def test_other_weights_do_not_get_the_shipped_projection(tmp_path: Path) -> None:
    """A projection is refused for any encoder but the one it was fitted on."""
    other = tmp_path / "other.pth"
    data = bytearray(bundled_weights().read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    with pytest.raises(EncoderConfigError, match="fitted on another encoder"):
        _of(tmp_path, checkpoint=str(other))


def test_a_url_is_fetched_once(tmp_path: Path) -> None:
    """Weights and projections from an object store are kept beside the other cached files."""
    fetched = []

    def fetch(url: str, path: Path) -> None:
        fetched.append(url)
        shutil.copy(bundled_weights(), path)

    spec = EncoderSpec(dimension=1280, checkpoint="s3://models/lite0.pth")
    prints = {fingerprint_of(spec, tmp_path, fetch) for _ in range(2)}
    assert prints == {_of(tmp_path, dimension=1280)}
    assert fetched == ["s3://models/lite0.pth"]


def test_a_failed_fetch_leaves_nothing(tmp_path: Path) -> None:
    """Half a download is not mistaken for the weights at the next start."""

    def fetch(url: str, path: Path) -> None:
        path.write_bytes(b"half")
        raise ConnectionError(url)

    spec = EncoderSpec(dimension=1280, checkpoint="s3://models/lite0.pth")
    with pytest.raises(ConnectionError):
        fingerprint_of(spec, tmp_path, fetch)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
