"""`visualindex demo` indexes, searches, remembers, and leaves no process behind however it is ended."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from visualindex.local.ports import pick
from visualindex.local.processes import kill_stack, of_stack
from visualindex.local.state import StateDir

PICTURES = 40
START_S = 280.0
END_S = 90.0

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures that differ: blots of colour, each from a seed of its own."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(PICTURES):
        rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{seed:03d}.jpg"), cv2.resize(rough, (640, 480)))
    return folder


class Demo:
    """One run of the command in a session of its own, as a terminal starts it."""

    def __init__(self, pictures: Path, state: Path, port: int, *options: str) -> None:
        self.state = state
        self._log = state.parent / f"demo-{time.monotonic_ns()}.log"
        command = [str(Path(sys.executable).with_name("visualindex")), "demo", "--images", str(pictures)]
        command += ["--state", str(state), "--port", str(port), *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def output(self) -> str:
        return " ".join(self._log.read_text().split())

    def wait_for(self, text: str) -> None:
        self._wait(lambda: text in self.output, START_S)

    def wait_for_end(self) -> int:
        self._wait(lambda: self.process.poll() is not None, END_S)
        return self.process.wait()

    def press_ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def _wait(self, condition: Callable[[], bool], limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while not condition():
            alive = self.process.poll() is None
            assert alive or condition(), f"ended with {self.process.returncode}: {self.output}"
            assert time.monotonic() < until, self.output
            time.sleep(0.05)


Start = Callable[..., Demo]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts demos in one state folder; what a failed test left of them is ended afterwards.

    The folder is not below pytest's own, which every run under the same user closes to Postgres's account.
    """
    demos: list[Demo] = []
    with tempfile.TemporaryDirectory(prefix="vi-demo-") as folder:
        state = Path(folder) / "state"

        def started(pictures: Path, *options: str) -> Demo:
            demos.append(Demo(pictures, state, pick(8310), *options))
            return demos[-1]

        yield started
        kill_stack(StateDir.at(state).mark)
        for demo in demos:
            demo.process.kill()
            demo.process.wait()


def survivors(demo: Demo, before: list[psutil.Process]) -> list[str]:
    """What still runs of the demo: by descent, by the stack's mark, by paths of its own on a command line."""
    state = StateDir.at(demo.state)
    named = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(p) in " ".join(process.info["cmdline"] or ()) for p in (state.path, state.sockets))
    ]
    left = [*(process for process in before if process.is_running()), *of_stack(state.mark), *named]
    return [str(process) for process in left if process.status() != psutil.STATUS_ZOMBIE]


def test_pictures_are_found_again_and_ctrl_c_ends_every_process(pictures: Path, start: Start) -> None:
    demo = start(pictures)
    demo.wait_for("Ctrl-C stops the service")
    assert f"{PICTURES} pictures indexed, 0 already there" in demo.output
    assert "006.jpg looks like" in demo.output
    tree = demo.tree()
    assert {"haproxy", "postgres"} <= {process.name() for process in tree} | {
        process.name() for process in of_stack(StateDir.at(demo.state).mark)
    }
    demo.press_ctrl_c()
    demo.press_ctrl_c()
    assert demo.wait_for_end() == 0, demo.output
    assert survivors(demo, tree) == []

    again = start(pictures, "--once")
    again.wait_for("looks like")
    assert f"0 pictures indexed, {PICTURES} already there" in again.output
    tree = again.tree()
    assert again.wait_for_end() == 0, again.output
    assert survivors(again, tree) == []


@pytest.mark.parametrize("moment", ["starting the database", "starting Ray Serve", "ready: "])
def test_a_signal_at_any_moment_ends_every_process(moment: str, pictures: Path, start: Start) -> None:
    demo = start(pictures)
    demo.wait_for(moment)
    tree = demo.tree()
    demo.process.terminate()
    assert demo.wait_for_end() == 0, demo.output
    assert "Traceback" not in demo.output
    assert survivors(demo, tree) == []


def test_a_folder_without_pictures_is_refused_before_anything_starts(tmp_path: Path, start: Start) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    demo = start(empty)
    assert demo.process.wait(END_S) == 1
    assert "holds no pictures" in demo.output
    assert not demo.state.exists()
