"""What must hold of the container image's recipe. Nothing is built here."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
STAGES = {
    match["name"]: match["body"]
    for match in re.finditer(
        r"^FROM (?P<parent>\S+) AS (?P<name>\S+)\n(?P<body>.*?)(?=^FROM |\Z)",
        RECIPE,
        re.MULTILINE | re.DOTALL,
    )
}
PARENTS = dict(re.findall(r"^FROM (\S+) AS (\S+)$", RECIPE, re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(stage: str, kind: str) -> list[str]:
    """The stage's instructions of that kind, without the keyword."""
    return re.findall(rf"^{kind} (.*)$", STAGES[stage], re.MULTILINE)


def test_the_base_is_an_argument() -> None:
    assert re.search(r"^ARG BASE=python:3\.\d+-slim$", RECIPE, re.MULTILINE)
    outside = [parent for parent in PARENTS if parent not in STAGES and parent != "scratch"]
    assert outside == ["${BASE}"]


def test_the_service_runs_as_a_numbered_user_who_is_not_root() -> None:
    """Kubernetes can only tell by the number that a user is not root."""
    assert instructions("runtime", "USER") == ["65532:65532"]


def test_both_variants_come_from_the_same_stages() -> None:
    """The variant chooses extras and nothing else."""
    (install,) = (line for line in instructions("dependencies", "RUN") if "local,operator,cluster" in line)
    assert ".[${VARIANT},local,operator,cluster]" in install
    assert {"cpu", "gpu", "local", "operator", "cluster"} <= PROJECT["project"][
        "optional-dependencies"
    ].keys()
    assert not any("VARIANT" in line for stage in STAGES for line in instructions(stage, "COPY"))


def test_what_is_installed_is_pinned() -> None:
    installs = [line for stage in STAGES for line in instructions(stage, "RUN") if "pip install" in line]
    assert installs
    for line in installs:
        assert "--constraint constraints.txt" in line or "--no-deps" in line


@pytest.mark.parametrize("program", ["bash", "grep", "wget"])
def test_what_kuberays_probes_run_is_in_it(program: str) -> None:
    (packages,) = re.findall(r"apt-get install (.*?)>", STAGES["base"])
    assert program in packages.split()


def test_a_change_of_the_sources_installs_no_dependency_again() -> None:
    """Whatever the dependencies' stage copies makes them anew when it changes."""
    assert instructions("dependencies", "COPY") == ["pyproject.toml constraints.txt ./"]


def test_every_package_of_the_project_is_in_it() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    (folders,) = re.findall(r"mkdir -p (.*?)&&", STAGES["dependencies"])
    assert folders.split() == packages
    copied = {line.split()[0] for line in instructions("application", "COPY")}
    assert {package.split("/")[0] for package in packages} <= copied


def test_no_installer_and_no_source_is_in_what_runs() -> None:
    assert "pip uninstall -y -q pip" in STAGES["lean"]
    assert instructions("runtime", "COPY") == [
        "--from=lean /opt/visualindex /opt/visualindex",
        "--from=application /out /",
    ]


def test_settings_of_the_building_machine_come_as_secrets() -> None:
    """As arguments they would stay in the image's history."""
    declared = set(re.findall(r"^ARG (\w+)", RECIPE, re.MULTILINE))
    assert declared == {"BASE", "VARIANT", "VERSION", "REVISION"}
    assert set(re.findall(r"--mount=type=secret,id=([\w.]+)", RECIPE)) == {"apt.conf", "pip.conf", "ca.crt"}


def test_the_build_sees_the_sources_and_little_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {
        "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "core", "serving", "jobs", "operator",
        "scripts/sbom.py",
    }  # fmt: skip
