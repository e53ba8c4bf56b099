"""How long nothing has moved of what another process fetches, and which one that is."""

import fcntl
import os
from pathlib import Path

from visualindex.generations.stalls import Stall, holder_of


def test_a_stall_lasts_since_the_number_of_bytes_changed() -> None:
    """In whatever direction: a damaged file begins again."""
    stall = Stall()
    looks = [(0, 10.0), (0, 14.0), (5, 15.0), (5, 21.0), (3, 22.0), (3, 23.0)]
    assert [stall.lasts_s(there, now) for there, now in looks] == [0, 4, 0, 6, 0, 1]


def test_who_holds_a_lock_is_told(tmp_path: Path) -> None:
    """By its process; nobody where nobody does, or where there is no file."""
    path = tmp_path / "partial"
    path.touch()
    nobody = "a process that cannot be seen from here"
    assert (holder_of(path), holder_of(tmp_path / "none")) == (nobody, nobody)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder_of(path) == f"process {os.getpid()}"
