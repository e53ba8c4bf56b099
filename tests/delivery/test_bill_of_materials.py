"""The image's bill of materials names Debian's packages beside Python's."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/sbom.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("visualindex_sbom_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_package_is_named_by_version_architecture_and_distribution(script: ModuleType) -> None:
    (package,) = script.debian_packages("wget\t1.21.3-1+b1\tamd64\tinstalled\n", "debian-12")
    assert (package.name, package.version) == ("wget", "1.21.3-1+b1")
    assert str(package.purl) == "pkg:deb/debian/wget@1.21.3-1%2Bb1?arch=amd64&distro=debian-12"


def test_packages_that_were_removed_are_left_out(script: ModuleType) -> None:
    """dpkg goes on listing those whose configuration files it keeps."""
    assert list(script.debian_packages("gone\t1.0\tall\tconfig-files\n", "debian-12")) == []


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="not a Debian system")
def test_the_document_holds_both_kinds(tmp_path: Path) -> None:
    python, whole = tmp_path / "python.json", tmp_path / "whole.json"
    tool = Path(sys.executable).with_name("cyclonedx-py")
    subprocess.run(
        [
            tool,
            "environment",
            "--no-validate",
            "--output-format",
            "JSON",
            "--output-file",
            python,
            sys.prefix,
        ],
        check=True,
        capture_output=True,
    )
    subprocess.run([sys.executable, SCRIPT, python, whole], check=True)
    document = json.loads(whole.read_text())
    kinds = {component["purl"].split("/")[0] for component in document["components"] if "purl" in component}
    assert document["bomFormat"] == "CycloneDX"
    assert {"pkg:pypi", "pkg:deb"} <= {kind.split("@")[0] for kind in kinds}
