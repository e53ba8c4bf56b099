"""Debian packages as read-only folders in a cache: fetched by apt without root, unpacked and never installed."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from visualindex.errors import ProblemError, ProblemType

_FETCH_TIMEOUT_S = 1800
_UNPACK_TIMEOUT_S = 600


def cache_folder() -> Path:
    """Where fetched packages are kept: `$XDG_CACHE_HOME/visualindex`, or `~/.cache/visualindex`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "visualindex"


def unpacked_package(name: str, cache: Path) -> Path:
    """The folder that holds the files of Debian package `name`, fetched and unpacked on first use.

    Raises ProblemError UNAVAILABLE, with the remedy, when apt is absent, knows no such package or cannot fetch it.
    """
    folder = cache / "packages" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=folder.parent) as work:
        unpack(_download(name, Path(work)), Path(work) / "files")
        _publish(Path(work) / "files", folder)
    return folder


def unpack(package: Path, into: Path) -> None:
    """The files of a `.deb` below `into`; nothing of the package is run."""
    result = _run(["dpkg-deb", "--extract", str(package), str(into)], into.parent, _UNPACK_TIMEOUT_S)
    if result.returncode:
        raise _failed(f"{package.name} cannot be unpacked: {_last_line(result.stderr)}")


def _download(name: str, into: Path) -> Path:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise _failed(
            f"the collection comes from the Debian package {name}, and this machine has no apt: "
            "use pictures of your own, for the demo with IMAGES=dir"
        )
    result = _run(["apt-get", "download", "--quiet", name], into, _FETCH_TIMEOUT_S)
    packages = list(into.glob("*.deb"))
    if result.returncode or not packages:
        raise _failed(_advice(name, result.stderr))
    return packages[0]


def _run(command: list[str], folder: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failed(f"`{' '.join(command)}` took longer than {timeout_s:.0f} s: try again") from None


def _advice(name: str, stderr: str) -> str:
    if "Unable to locate package" in stderr or "No candidate" in stderr:
        return f"apt does not know the package {name}: run `sudo apt-get update` (Debian or Ubuntu), then try again"
    return f"apt cannot fetch the package {name}: {_last_line(stderr)}; run `sudo apt-get update`, then try again"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("W:")]
    return lines[-1] if lines else "no reason given"


def _publish(files: Path, folder: Path) -> None:
    """Move into place at once; a second fetch at the same time finds the first one's folder and is content."""
    try:
        files.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _failed(detail: str) -> ProblemError:
    return ProblemError(ProblemType.UNAVAILABLE, detail)
