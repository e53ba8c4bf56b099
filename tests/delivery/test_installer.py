"""The installer hands a person's pip settings to uv, so that both fetch from the same places."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/install.py"


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("visualindex_install_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_index_of_ones_own_is_used_by_uv(installer: ModuleType) -> None:
    settings = installer.uv_settings("global.index-url='https://mirror.test/simple'\n")
    assert settings == {"UV_DEFAULT_INDEX": "https://mirror.test/simple"}


def test_the_environment_wins_over_the_file_in_whatever_order_pip_lists_them(installer: ModuleType) -> None:
    file, env = "global.cert='/file.pem'", ":env:.cert='/env.pem'"
    for listing in (f"{file}\n{env}", f"{env}\n{file}"):
        assert installer.uv_settings(listing)["SSL_CERT_FILE"] == "/env.pem"


def test_several_places_keep_the_separator_that_uv_wants(installer: ModuleType) -> None:
    listing = "global.extra-index-url='https://a.test\\nhttps://b.test'\n:env:.find-links='/one /two'\n"
    settings = installer.uv_settings(listing)
    assert settings == {"UV_INDEX": "https://a.test https://b.test", "UV_FIND_LINKS": "/one,/two"}


def test_settings_that_uv_has_no_use_for_are_left_out(installer: ModuleType) -> None:
    assert installer.uv_settings("global.disable-pip-version-check='1'\nglobal.progress-bar='off'\n") == {}
