"""The notice that this node, or this process, is about to be taken away: what is under way is ended, and nothing begun.

A pod's `preStop` hook runs `python -m visualindex_jobs.notice`: it leaves a mark on the node, waits until the job's
processes there are at rest, and lets the pod be ended. A process of its own is given notice by SIGTERM.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

FOLDER_VARIABLE = "VISUALINDEX_NOTICE_DIR"
_MARK = "leaving"
_LOOK_S = 0.2
_signalled = threading.Event()


def given() -> bool:
    """Whether notice was given to this process or to its node."""
    return _signalled.is_set() or (_folder() / _MARK).exists()


def heed_signals() -> None:
    """Take SIGTERM for a notice from now on; a second one ends the process as ever. For the main thread."""

    def noticed(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _signalled.set()

    signal.signal(signal.SIGTERM, noticed)


@contextmanager
def at_work() -> Iterator[None]:
    """What a notice waits for."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    busy = folder / f"{os.getpid()}-{uuid4().hex}"
    busy.touch()
    try:
        yield
    finally:
        busy.unlink(missing_ok=True)


@contextmanager
def staying() -> Iterator[None]:
    """Work that is begun only while no notice was given. Else this waits for its process to be taken away: who gave it the
    work gives it to another then."""
    while True:
        with at_work():
            if not given():  # who gives notice from now on waits
                yield
                return
        time.sleep(_LOOK_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Give notice to this node, and wait until its processes are at rest; exit code 1 when some are not in time."""
    parser = argparse.ArgumentParser("visualindex_jobs.notice", description=main.__doc__)
    parser.add_argument("--within", type=float, default=100.0, help="longest wait in seconds")
    asked = parser.parse_args(arguments)
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    until = time.monotonic() + asked.within
    while any(_is_alive(one) for one in folder.iterdir() if one.name != _MARK):
        if time.monotonic() >= until:
            return 1
        time.sleep(_LOOK_S)
    return 0


def _folder() -> Path:
    return Path(os.environ.get(FOLDER_VARIABLE, "/tmp/visualindex-notice"))  # noqa: S108 - the pod's own


def _is_alive(busy: Path) -> bool:
    try:
        os.kill(int(busy.name.partition("-")[0]), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


if __name__ == "__main__":
    sys.exit(main())
