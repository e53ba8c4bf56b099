"""`visualindex demo` refuses what cannot work before it fetches or starts anything; how it runs: tests/delivery."""

import io
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from visualindex.cli import app
from visualindex.cli.sources import Item, Unusable
from visualindex.cli.tour import Tour
from visualindex.errors import ProblemError

from .scripted_service import Received, Reply, problem, reply, serving

PORT = "8461"


def demo(*arguments: str) -> Result:
    """Run `visualindex demo`."""
    return CliRunner().invoke(app, ["demo", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


def refused(result: Result) -> str:
    """The one line that a demo ended with, before it said anything else."""
    assert isinstance(result.exception, ProblemError)
    assert result.output == ""
    return result.exception.detail


@pytest.mark.parametrize("port", ["0", "99999"])
def test_a_number_that_is_no_port_is_a_usage_error(port: str, tmp_path: Path) -> None:
    result = demo("--state", str(tmp_path / "state"), "--port", port)
    assert result.exit_code == 2
    assert "--port" in result.output


def test_a_port_in_use_is_said_before_the_catalogue_is_fetched(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = demo("--state", str(tmp_path / "state"), "--port", str(server.getsockname()[1]))
    assert "is in use" in refused(result)
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    detail = refused(demo("--state", str(tmp_path / "file" / "state"), "--port", PORT))
    assert "cannot be written: Not a directory; name another with --state" in detail


def test_a_list_without_an_address_starts_nothing(tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("chair.jpg\n")
    detail = refused(demo("--images", str(listing), "--state", str(tmp_path / "state"), "--port", PORT))
    assert f"{listing} holds no pictures ({listing}:1: line 1 is not an http(s) address)" in detail
    assert not (tmp_path / "state").exists()


VIEW = {"name": "images", "encoder": "e", "fingerprint": "f", "dimension": 256, "images": 0, "replicas": []}
WRITTEN = {"image_id": "0f8fad5b-d9cb-569f-a165-70867728950e", "created": True, "token": "t"}
EMBEDDED = {"embedding": {"state": "stored", "fingerprint": "f", "dimension": 256}}
ADDRESS = "https://images.example/a.jpg"


class Said(io.StringIO):
    """What a tour prints; `over` is set by its last line."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if "Ctrl-C stops the service" in text:
            self.over.set()
        return written


def tour(said: Said, journal: Path, *, once: bool) -> Tour:
    """A tour of one picture that the service fetches itself, and of a line that names none."""
    entries = [Item(ADDRESS, ADDRESS, image_url=ADDRESS), Unusable("list.txt:2", "is not an address")]
    return Tour(entries, journal, Console(file=said, width=200), once=once)


@pytest.fixture
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by the signal with which a tour asks its process to stop."""
    asked = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    yield asked
    signal.signal(signal.SIGTERM, previous)


def takes_all(received: Received) -> Reply:
    """A service that stores every picture."""
    return reply([VIEW]) if received.path == "/api/indexes" else reply({**WRITTEN, **EMBEDDED}, 201)


def refuses_all(received: Received) -> Reply:
    """A service that stores none."""
    return reply([VIEW]) if received.path == "/api/indexes" else problem("fetch-failed", 422, "no such host")


def test_the_goodbye_names_the_port_and_promises_no_example_that_it_lacks(tmp_path: Path) -> None:
    said = Said()
    with serving(takes_all) as service:
        shown = tour(said, tmp_path / "journal", once=False)
        shown.start(service.url)
        assert said.over.wait(30), said.getvalue()
        shown.stop()
    assert "in a browser and drop a picture on it\n" in said.getvalue()
    assert f"export VISUALINDEX_URL={service.url}\n" in said.getvalue()


def test_a_tour_that_stops_afterwards_says_nothing_of_ctrl_c(
    tmp_path: Path, asked_to_stop: threading.Event
) -> None:
    said = Said()
    with serving(takes_all) as service:
        shown = tour(said, tmp_path / "journal", once=True)
        shown.start(service.url)
        assert asked_to_stop.wait(30), said.getvalue()
        shown.stop()
    assert shown.succeeded
    assert "1 pictures indexed, 0 already there, 1 refused" in said.getvalue()
    assert "refused: list.txt:2: is not an address" in said.getvalue()
    assert "Ctrl-C" not in said.getvalue()


def test_a_tour_that_indexed_nothing_ends_the_service(tmp_path: Path, asked_to_stop: threading.Event) -> None:
    said = Said()
    with serving(refuses_all) as service:
        shown = tour(said, tmp_path / "journal", once=False)
        shown.start(service.url)
        assert asked_to_stop.wait(30), said.getvalue()
        shown.stop()
    assert not shown.indexed
    assert "error: no picture could be indexed" in said.getvalue()
