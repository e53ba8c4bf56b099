"""The database server of tests and benchmarks: a real one, in a folder that its own account can reach."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visualindex.catalog import EmbeddedPostgres


@contextmanager
def running_postgres(state: Path | None = None) -> Iterator[EmbeddedPostgres]:
    """A server below `state`, which others than this user must be able to enter, or in a folder that goes with it."""
    if state is None:
        with tempfile.TemporaryDirectory(prefix="vi-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            folder.chmod(0o755)  # pytest and tempfile lock theirs against other accounts
            with running_postgres(folder) as server:
                yield server
        return
    server = EmbeddedPostgres(state)
    server.start()
    try:
        yield server
    finally:
        server.stop()
