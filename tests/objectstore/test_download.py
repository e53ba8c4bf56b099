"""Fetching weights from an object store that is not there."""

import socket
from pathlib import Path

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore.download import download


def test_an_endpoint_that_refuses_is_a_problem_that_names_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("VISUALINDEX_S3_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("VISUALINDEX_S3_ACCESS_KEY", "a-key")
    monkeypatch.setenv("VISUALINDEX_S3_SECRET_KEY", "a-secret")
    with pytest.raises(ProblemError, match=r"^s3://models/b32\.onnx cannot be fetched") as failed:
        download("s3://models/b32.onnx", tmp_path / "b32.onnx")
    assert failed.value.type is ProblemType.UNAVAILABLE
    assert list(tmp_path.iterdir()) == []
