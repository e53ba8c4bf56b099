"""What was ingested already: a local file of keys, so that an interrupted run goes on where it stopped."""

import fcntl
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from visualindex.cli.sources import Item
from visualindex.errors import ProblemError, ProblemType


def journal_path(*identity: str) -> Path:
    """The file of one job, named by what identifies it: below `$XDG_STATE_HOME`, or `~/.local/state`."""
    base = os.environ.get("XDG_STATE_HOME")
    folder = (Path(base) if base else Path.home() / ".local" / "state") / "visualindex" / "ingest"
    return folder / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]}.jsonl"


def signature(item: Item) -> str:
    """What a key stood for: changes when the file, its size or its fields do. Raises OSError for a missing file."""
    fields: list[Any] = [item.image_url, item.category, item.url, item.metadata]
    if item.path is not None:
        status = item.path.stat()
        fields += [str(item.path), status.st_size, status.st_mtime_ns]
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:32]


class Journal:
    """Keys and their signatures, one JSON line each, appended after the service has acknowledged them.

    A line that a killed run left half-written is dropped. One process at a time may hold a journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: dict[str, str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = path.open("a+", encoding="utf-8")
        self._lock()
        self._read()

    def __len__(self) -> int:
        return len(self._done)

    def holds(self, key: str, mark: str) -> bool:
        """Whether `key` was ingested as it is now."""
        return self._done.get(key) == mark

    def add(self, key: str, mark: str) -> None:
        """Note that the service has `key`."""
        self._done[key] = mark
        self._file.write(json.dumps([key, mark]) + "\n")
        self._file.flush()

    def clear(self) -> None:
        """Forget everything: the next run ingests all again."""
        self._done.clear()
        self._file.truncate(0)

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            detail = (
                f"another ingest of the same source is running (it holds {self.path}): wait for it, or end it"
            )
            raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None

    def _read(self) -> None:
        self._file.seek(0)
        end = 0
        for line in iter(self._file.readline, ""):
            try:
                key, mark = json.loads(line)
            except ValueError:
                break
            if not line.endswith("\n"):
                break
            self._done[key] = mark
            end = self._file.tell()
        self._file.truncate(end)
