"""The commands as a user meets them: their output, their exit codes, and how fast the first word comes."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = (
    "ray",
    "numpy",
    "pydantic",
    "faiss",
    "httpx",
    "torch",
    "psycopg",
    "cv2",
    "PIL",
    "yaml",
    "psutil",
    "pyarrow",
)


def visualindex(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-c", "from visualindex.cli import main; main()", *arguments]
    variables = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, visualindex.cli; print(sorted(sys.modules.keys() & set(sys.argv[1:])))"
    result = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_names_every_command() -> None:
    result = visualindex("--help")
    assert result.returncode == 0
    for command in ("validate", "doctor", "collections"):
        assert command in result.stdout


def test_the_version_is_the_packages() -> None:
    assert visualindex("--version").stdout.startswith("visualindex 0.")


def test_a_valid_spec_exits_zero_and_names_its_indexes() -> None:
    result = visualindex("validate", str(ROOT / "examples/two-indexes.yaml"))
    assert (result.returncode, result.stdout) == (0, "valid: furniture, stamps\n")


def test_a_wrong_spec_exits_one_with_a_report_on_stderr() -> None:
    path = ROOT / "tests/spec/bad/many-mistakes.yaml"
    result = visualindex("validate", str(path))
    assert (result.returncode, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert lines[-1] == "invalid: 4 mistakes in 1 file"
    assert all(line.startswith(f"{path}:") for line in lines[:-1])


def test_validate_speaks_json() -> None:
    good = visualindex("validate", "--json", str(ROOT / "examples/furniture.yaml"))
    assert (good.returncode, json.loads(good.stdout)) == (0, {"valid": True, "indexes": ["furniture"]})
    bad = visualindex("validate", "--json", str(ROOT / "tests/spec/bad/unknown-key-typo.yaml"))
    finding = json.loads(bad.stdout)["problems"][0]
    assert (bad.returncode, finding["path"], finding["line"]) == (1, "spec.encoder.dimenson", 8)


def test_validate_without_a_file_is_a_usage_error() -> None:
    assert visualindex("validate").returncode == 2


def test_a_problem_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    result = visualindex("collections", "fetch", "shoes", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == "error: no collection is named 'shoes': choose one of furniture, stamps\n"
