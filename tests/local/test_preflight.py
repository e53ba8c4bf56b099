"""`up` refuses what this machine cannot run before anything is started, and says what to do."""

import sys
from pathlib import Path
from typing import Any

import pytest

from visualindex.credentials import ACCESS_KEY_VARIABLE as ACCESS_KEY
from visualindex.credentials import SECRET_KEY_VARIABLE as SECRET_KEY
from visualindex.errors import ProblemError
from visualindex.local.preflight import count_gpus, refuse_unrunnable
from visualindex.local.supervisor import Options, Supervisor
from visualindex.spec import API_VERSION, KIND, VisualIndex

_CLIP = {"family": "open_clip", "model": "ViT-B-32", "checkpoint": "hub:laion2b_s34b_b79k"}
_S3 = {"s3": {"endpoint": "minio:9000", "bucket": "shop", "credentialsSecretRef": "shop-s3"}}


def _index(**spec: Any) -> VisualIndex:
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "shop"}, "spec": spec}
    return VisualIndex.model_validate(document)


def _uninstall(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)  # to importlib a module that is not there


def test_the_defaults_are_not_refused() -> None:
    assert refuse_unrunnable([_index()], gpus=0) == []


@pytest.mark.parametrize("runtime", ["auto", "torch"])
def test_a_missing_torch_is_named_with_what_installs_it(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _uninstall(monkeypatch, "torch", "open_clip")
    with pytest.raises(ProblemError, match=r"Index shop: .*torch.*: pip install 'visualindex\[torch\]'"):
        refuse_unrunnable([_index(encoder=_CLIP | {"runtime": runtime})], gpus=0)


def test_a_missing_runtime_of_the_default_encoder_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _uninstall(monkeypatch, "onnxruntime", "openvino", "torch")
    with pytest.raises(ProblemError, match=r"pip install 'visualindex\[cpu\]'"):
        refuse_unrunnable([_index()], gpus=0)


def test_a_service_without_its_runtime_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _uninstall(monkeypatch, "onnxruntime", "openvino", "torch")
    supervisor = Supervisor([_index()], Options(tmp_path / "state"), lambda line: None)
    with pytest.raises(ProblemError, match="no runtime"):
        supervisor.run(lambda url: None)
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize("wish", [{"device": "cuda", "runtime": "torch"}, {"numGpus": 0.5}])
def test_a_gpu_that_is_not_there_is_refused(wish: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_installed(monkeypatch, "torch")
    with pytest.raises(ProblemError, match=r"device: cpu and encoder\.numGpus: 0"):
        refuse_unrunnable([_index(encoder=wish)], gpus=0)


def test_more_gpus_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_installed(monkeypatch, "torch")
    index = _index(encoder={"numGpus": 1, "replicas": 2})
    assert refuse_unrunnable([index], gpus=2) == []
    with pytest.raises(ProblemError, match="want 2 GPUs together, and this machine has 1"):
        refuse_unrunnable([index], gpus=1)


def test_gpus_of_shards_count_too() -> None:
    index = _index(index={"family": "ivf-sq8", "numGpus": 0.5, "shards": 2, "replicas": 2})
    assert refuse_unrunnable([index], gpus=2) == []
    with pytest.raises(ProblemError, match="want 2 GPUs together, and this machine has 1: lower numGpus"):
        refuse_unrunnable([index], gpus=1)
    with pytest.raises(ProblemError, match=r"a shard wants a GPU, .* and index\.numGpus: 0"):
        refuse_unrunnable([index], gpus=0)


def _pretend_installed(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, sys)  # only its spec is asked for


def test_gpus_are_counted_by_their_device_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    assert count_gpus(tmp_path) == 2


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("GPU-1a,GPU-2b", 2)])
def test_hidden_gpus_do_not_count(visible: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == count


def test_a_database_in_a_secret_is_refused() -> None:
    index = _index(postgres={"dsnSecretRef": {"name": "shop-postgres", "key": "dsn"}})
    with pytest.raises(ProblemError, match=r"postgres\.dsnSecretRef names a Secret"):
        refuse_unrunnable([index], gpus=0)


def test_a_bucket_without_credentials_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ACCESS_KEY, "key")
    monkeypatch.delenv(SECRET_KEY, raising=False)
    with pytest.raises(ProblemError, match=f"set {SECRET_KEY}, or remove"):
        refuse_unrunnable([_index(storage=_S3)], gpus=0)


def test_an_ignored_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ACCESS_KEY, "key")
    monkeypatch.setenv(SECRET_KEY, "secret")
    (line,) = refuse_unrunnable([_index(storage=_S3)], gpus=0)
    assert line.startswith("index shop: storage.s3.credentialsSecretRef is ignored here")
