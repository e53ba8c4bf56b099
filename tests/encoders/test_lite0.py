"""The bundled encoder gives one answer on every runtime: timm's."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from visualindex.encoders import Encoder, EncoderConfigError, Parallelism, TextNotSupportedError, load_encoder
from visualindex.encoders.lite0 import bundled_weights
from visualindex.encoders.lite0_graph import build_graph, classifier
from visualindex.encoders.placement import placement_of
from visualindex.encoders.torch_pickle import read_state_dict
from visualindex.spec.models import EncoderSpec

Draw = Callable[..., npt.NDArray[np.uint8]]
RUNTIMES = ["openvino", "onnxruntime", pytest.param("torch", marks=pytest.mark.torch)]


def _spec(**fields: object) -> EncoderSpec:
    return EncoderSpec.model_validate({"dimension": 1280, **fields})


@pytest.mark.torch
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_agrees_with_the_reference(runtime: str, cache_dir: Path, draw: Draw) -> None:
    """Pooled features, patches and logits equal those of timm's own forward pass."""
    import timm
    import torch

    state = torch.load(bundled_weights(), weights_only=True)
    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    images = draw(6)
    with torch.inference_mode():
        pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128
        logits = model(pixels).numpy()
        pooled = model.forward_head(model.forward_features(pixels), pre_logits=True).numpy()
        grid = model.forward_intermediates(pixels, indices=[3], intermediates_only=True)[0].numpy()

    encoded = load_encoder(_spec(runtime=runtime), cache_dir=cache_dir, threads=2).encode(
        images, patches=True
    )
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    assert np.sum(encoded.vectors * unit, axis=1).min() >= 0.99999
    assert np.abs(encoded.vectors - unit).max() < 1e-5

    weight, bias = classifier(read_state_dict(bundled_weights()))
    rebuilt = encoded.vectors * np.linalg.norm(pooled, axis=1, keepdims=True) @ weight.T + bias
    assert np.abs(rebuilt - logits).max() < 1e-3

    assert encoded.patches is not None
    assert encoded.patches.dtype == np.float16
    assert encoded.patches.shape == (6, 14, 14, 112)
    assert np.abs(encoded.patches - grid.transpose(0, 2, 3, 1)).max() < 0.02


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_is_its_pictures(runtime: str, cache_dir: Path, draw: Draw) -> None:
    """A picture's vector does not depend on its neighbours, the batch's size or the variant."""
    images = draw(9)
    encoder = load_encoder(_spec(runtime=runtime), cache_dir=cache_dir, threads=2)
    whole = encoder.encode(images).vectors
    single = np.concatenate(
        [encoder.encode(images[i : i + 1], parallelism="throughput").vectors for i in range(9)]
    )
    assert np.sum(whole * single, axis=1).min() >= 0.99999
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_calls_side_by_side_do_not_mix(runtime: str, cache_dir: Path, draw: Draw) -> None:
    """More callers than threads, on both variants at once, each get their own picture's vector."""
    images = draw(12)
    encoder = load_encoder(_spec(runtime=runtime), cache_dir=cache_dir, threads=2)
    expected = encoder.encode(images).vectors

    def encode(call: int) -> float:
        row = call % len(images)
        parallelism: Parallelism = "latency" if call % 5 == 0 else "throughput"
        vector = encoder.encode(images[row : row + 1], parallelism=parallelism).vectors[0]
        return float(vector @ expected[row])

    with ThreadPoolExecutor(6) as pool:
        assert min(pool.map(encode, range(60))) >= 0.99999


def test_needs_no_torch(tmp_path: Path) -> None:
    """With torch and timm impossible to import, the default encoder still loads and encodes."""
    program = """
import sys
sys.modules["torch"] = sys.modules["timm"] = None
import numpy as np
from pathlib import Path
from typing import Any
from visualindex.encoders import load_encoder
from visualindex.spec.models import EncoderSpec
encoder = load_encoder(EncoderSpec(), cache_dir=Path(sys.argv[1]))
print(encoder.encode(np.zeros((2, 224, 224, 3), np.uint8)).vectors.shape)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "(2, 256)"


def test_is_named_without_any_runtime(tmp_path: Path) -> None:
    """What only plans or runs torch needs neither ONNX nor a CPU runtime installed."""
    program = """
import sys
for name in ("onnx", "onnxruntime", "openvino", "timm", "open_clip"):
    sys.modules[name] = None
from pathlib import Path
from visualindex.encoders import fingerprint_of
from visualindex.spec.models import EncoderSpec
print(fingerprint_of(EncoderSpec(runtime="torch"), Path(sys.argv[1])))
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert len(done.stdout.strip()) == 16


def test_the_graph_is_built_once(tmp_path: Path) -> None:
    """A second start reads the file of the first, and a cut-short leftover is not mistaken for it."""
    load_encoder(_spec(), cache_dir=tmp_path).close()
    (file,) = (tmp_path / "onnx").iterdir()
    before = file.stat().st_mtime_ns
    load_encoder(_spec(), cache_dir=tmp_path).close()
    assert [p.name for p in (tmp_path / "onnx").iterdir()] == [file.name]
    assert file.stat().st_mtime_ns == before


def test_the_graph_is_the_same_bytes_every_time() -> None:
    """Two machines build the same file."""
    state = read_state_dict(bundled_weights())
    assert build_graph(state) == build_graph(state)


def test_refuses_the_weights_of_another_model() -> None:
    """Weights that do not pair off with the architecture are refused."""
    state = read_state_dict(bundled_weights())
    state.pop("_blocks.3._bn1.weight")
    with pytest.raises(ValueError, match="give the weights of that model"):
        build_graph(state)


@pytest.mark.parametrize("shape", [(224, 224, 3), (1, 64, 64, 3), (1, 224, 224, 4)])
def test_refuses_pictures_of_another_shape(lite0: Encoder, shape: tuple[int, ...]) -> None:
    """The message says what came and what is wanted."""
    with pytest.raises(ValueError, match=r"takes uint8\[n, 224, 224, 3\]"):
        lite0.encode(np.zeros(shape, np.uint8))


def test_refuses_float_pictures(lite0: Encoder) -> None:
    """Scaled floats would be encoded as nearly black."""
    with pytest.raises(ValueError, match=r"images are float32\[1, 224, 224, 3\]"):
        lite0.encode(np.zeros((1, 224, 224, 3), np.float32))


def test_takes_views_that_are_not_contiguous(lite0: Encoder, draw: Draw) -> None:
    """A mirrored view is encoded as what it shows, not as what lies in memory."""
    images = draw(2)
    mirrored = images[:, :, ::-1]
    expected = lite0.encode(np.ascontiguousarray(mirrored)).vectors
    assert np.sum(lite0.encode(mirrored).vectors * expected, axis=1).min() >= 0.99999


def test_has_no_text_tower(lite0: Encoder) -> None:
    """Words are refused with the way out."""
    with pytest.raises(TextNotSupportedError, match="open_clip"):
        lite0.encode_text(["a chair"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runtime": "onnxruntime", "precision": "bfloat16"}, "onnxruntime takes float32"),
        ({"runtime": "openvino", "device": "cuda"}, "does not run efficientnet-lite0 on cuda"),
        ({"dimension": 2048}, "the model has 1280"),
        ({"dimension": 600}, "has 512 components"),
        ({"checkpoint": "/nowhere/weights.pth"}, "/nowhere/weights.pth is no file"),
        ({"checkpoint": "s3://models/lite0.pth"}, "needs an object store"),
    ],
)
def test_refuses_what_cannot_be(fields: dict[str, object], message: str, cache_dir: Path) -> None:
    """Each impossible specification is refused at load, naming field and remedy."""
    with pytest.raises(EncoderConfigError, match=message):
        load_encoder(_spec(**fields), cache_dir=cache_dir)


def test_auto_takes_a_runtime_that_can() -> None:
    """Single precision takes the fastest runtime; half precision on CPU takes one that has it."""
    assert placement_of(_spec()).runtime == "onnxruntime"
    assert placement_of(_spec(precision="bfloat16")).runtime == "openvino"


@pytest.mark.torch
def test_refuses_a_gpu_that_is_not_there(cache_dir: Path) -> None:
    """A pod scheduled without its GPU says so instead of crawling on the CPU."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EncoderConfigError, match="torch sees no GPU"):
        load_encoder(_spec(device="cuda"), cache_dir=cache_dir)


def test_refuses_no_threads(cache_dir: Path) -> None:
    """Zero threads is a mistake, not `as many as there are`."""
    with pytest.raises(EncoderConfigError, match="at least one"):
        load_encoder(_spec(), cache_dir=cache_dir, threads=0)


def test_a_lone_call_leaves_its_thread_where_it_may_run(lite0: Encoder, draw: Draw) -> None:
    """On two CPUs it is kept on one of them, apart from its helper, while it runs."""
    before, images = os.sched_getaffinity(0), draw(1)
    alone = lite0.encode(images, parallelism="latency").vectors
    assert os.sched_getaffinity(0) == before
    np.testing.assert_allclose(alone, lite0.encode(images, parallelism="throughput").vectors, atol=1e-5)


def test_onnx_runtime_reports_nothing_about_this_machine(tmp_path: Path) -> None:
    """Left to itself it makes up an identity of the machine in the home directory and sends events under it."""
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", "import visualindex.encoders.onnx_runtime"]
    subprocess.run(command, env={**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []
