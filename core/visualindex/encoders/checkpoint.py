"""Brings a checkpoint or projection file to this machine, whatever way its place is written."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from visualindex.encoders.base import EncoderConfigError, Fetch


def local_file(location: str, *, cache_dir: Path, fetch: Fetch | None, what: str) -> Path:
    """The local path of a file named by path or `s3://` URL; `what` names it in errors.

    A URL is fetched once and kept under `cache_dir`, so what a URL names must not change: new weights need a new key.
    """
    if location.startswith("s3://"):
        return _fetched(location, cache_dir, fetch, what)
    path = Path(location).expanduser()
    if not path.is_file():
        raise EncoderConfigError(f"{what} {location} is no file on this machine: check the path")
    return path


def _fetched(url: str, cache_dir: Path, fetch: Fetch | None, what: str) -> Path:
    if fetch is None:
        raise EncoderConfigError(
            f"{what} {url} needs an object store, but none is configured: give a file path"
        )
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    download = fetch
    return cached(cache_dir / "files" / key / PurePosixPath(url).name, lambda part: download(url, part))


def hub_tag(location: str) -> str | None:
    """The tag of a `hub:TAG` location, None for any other."""
    return location.removeprefix("hub:") if location.startswith("hub:") else None


def cached(path: Path, write: Callable[[Path], None]) -> Path:
    """`path`, written by `write` if it is not there yet; never seen half-written, also by other processes."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
        part = Path(folder) / path.name
        write(part)
        os.replace(part, path)
    return path
