"""What must hold of the tree as a whole: its layout, its layers, and what its files may not say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from visualindex.errors import ProblemType

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("core", "serving", "jobs", "operator")
PROBLEMS = (ROOT / "docs/problems.md").read_text()

# Written in two halves, so that this file does not name what no file may name.
REGISTRY_HOSTS = tuple(
    first + second
    for first, second in (
        ("py", "pi.org"),
        ("python", "hosted.org"),
        ("npm", "js.org"),
        ("npm", "js.com"),
        ("docker", ".io"),
        ("gh", "cr.io"),
        ("qu", "ay.io"),
        ("gcr", ".io"),
        ("crates", ".io"),
        ("deb.debian", ".org"),
        ("archive.", "ubuntu.com"),
        ("conda.", "anaconda.org"),
        ("download.", "pytorch.org"),
        ("hugging", "face.co"),
        ("proxy.", "golang.org"),
    )
)


def tracked_files() -> list[Path]:
    """Every file that git tracks, or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def test_source_roots_are_no_packages() -> None:
    for name in SOURCE_ROOTS:
        assert not (ROOT / name / "__init__.py").exists(), f"{name}/ hides a module of the standard library"


def test_the_standard_librarys_operator_is_found_from_the_root() -> None:
    code = "import operator; print(operator.itemgetter(0)('ok'))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "o"


def test_no_file_names_a_package_registry() -> None:
    pattern = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)).encode(), re.IGNORECASE)
    naming = [str(path.relative_to(ROOT)) for path in tracked_files() if pattern.search(path.read_bytes())]
    assert naming == []


def test_every_tracked_text_file_ends_with_a_newline() -> None:
    suffixes = {".py", ".md", ".toml", ".yaml", ".sql", ".txt", ".html", ".css", ".js"}
    files = [path for path in tracked_files() if path.suffix in suffixes and path.stat().st_size]
    assert [str(path.relative_to(ROOT)) for path in files if not path.read_bytes().endswith(b"\n")] == []


def test_no_tracked_file_is_large() -> None:
    large = [str(path.relative_to(ROOT)) for path in tracked_files() if path.stat().st_size > 4 * 1024**2]
    assert large == []


def test_imports_follow_the_layers() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_hooks_use_the_tools_that_are_installed_and_fetch_nothing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    for hook in hooks:
        tool = Path(sys.executable).with_name(Path(hook["entry"].split()[0]).name)
        assert tool.exists(), f"{hook['id']} needs {tool}"


@pytest.mark.parametrize("problem", list(ProblemType), ids=lambda problem: problem.value.slug)
def test_every_problem_is_documented_with_its_status_and_title(problem: ProblemType) -> None:
    kind = problem.value
    assert f"\n## {kind.slug}\n\n**{kind.status}** · {kind.title}\n" in PROBLEMS
    section = PROBLEMS.split(f"\n## {kind.slug}\n")[1].split("\n## ")[0]
    assert "*What to do:* " in section


def test_no_documented_problem_is_gone() -> None:
    documented = re.findall(r"^## (\S+)$", PROBLEMS, re.MULTILINE)
    assert documented == [problem.value.slug for problem in ProblemType]


def test_the_changelog_names_the_version_or_unreleased_work() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings
    assert headings[0] in ("Unreleased", version)


def test_links_inside_the_documentation_lead_somewhere() -> None:
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
    pages += sorted((ROOT / "docs").rglob("*.md"))
    broken = [
        f"{page.relative_to(ROOT)} → {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
