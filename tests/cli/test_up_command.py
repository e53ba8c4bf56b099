"""`visualindex up` tells who needs a key, and how to make one."""

from pathlib import Path

import pytest

from visualindex.cli.up import key_hint
from visualindex.spec import API_VERSION, KIND, VisualIndex


def _index(name: str, mode: str) -> VisualIndex:
    spec = {"access": {"mode": mode}}
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
    return VisualIndex.model_validate(document)


def test_open_indexes_on_loopback_need_none() -> None:
    assert key_hint([_index("shop", "auto"), _index("tiles", "open")], "127.0.0.1", Path("state")) == ""


@pytest.mark.parametrize(("host", "mode"), [("0.0.0.0", "auto"), ("127.0.0.1", "keys")])  # noqa: S104 - compared
def test_a_closed_service_says_how_to_make_one(host: str, mode: str) -> None:
    hint = key_hint([_index("shop", mode)], host, Path("my state"))
    assert hint.startswith("every call needs an API key")
    assert "`visualindex keys create NAME --scope search --state 'my state'`" in hint


def test_only_the_closed_indexes_are_named() -> None:
    hint = key_hint([_index("shop", "keys"), _index("tiles", "open")], "127.0.0.1", Path("state"))
    assert hint.startswith("every call to shop needs an API key")
