"""`visualindex search` shows hits as a table, as JSON, or as a page that needs nothing but itself."""

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from visualindex.cli import app
from visualindex.errors import ProblemError

from .scripted_service import Received, Reply, problem, reply, serving

IMAGE_ID = "0f8fad5b-d9cb-569f-a165-70867728950e"
PNG = b"\x89PNG the query"
HITS: list[dict[str, Any]] = [
    {
        "image_id": IMAGE_ID,
        "score": 0.91,
        "category": "Chairs",
        "url": "https://shop.example/1",
        "metadata": {"name": "Chair <b>&"},
        "thumbnails": {
            "128": "/api/thumbnails/128",
            "320": "/api/thumbnails/320",
            "640": "/api/thumbnails/640",
        },
    },
    {
        "image_id": str(uuid.uuid4()),
        "score": 0.5,
        "key": "[red]K-2[/red]",
        "url": "javascript:alert(1)",
        "thumbnails": {"128": "/api/thumbnails/gone"},
    },
]


def answer(received: Received) -> Reply:
    """Two hits, one of whose thumbnails is gone."""
    if received.path == "/api/thumbnails/gone":
        return problem("not-found", 404, "gone")
    if received.path.startswith("/api/thumbnails"):
        return 200, {"Content-Type": "image/webp"}, b"RIFF" + received.path.encode()
    common = {"query_id": str(uuid.uuid4()), "index": "shop", "generation": "live", "fingerprint": "f"}
    return reply({**common, "hits": HITS, "complete": True, "took_ms": 12.0})


def search(url: str, *arguments: str) -> Result:
    """Run `visualindex search` against a service."""
    environment = {"VISUALINDEX_URL": url, "COLUMNS": "200", "NO_COLOR": "1"}
    return CliRunner().invoke(app, ["search", *arguments], env=environment)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture file."""
    path = tmp_path / "query.png"
    path.write_bytes(PNG)
    return path


def test_a_table_has_a_row_for_every_hit(picture: Path) -> None:
    with serving(answer) as service:
        result = search(service.url, str(picture), "-n", "2")
    assert result.exit_code == 0, result.output
    assert re.search(r"1 +0\.910 +Chair <b>& +Chairs +https://shop\.example/1", result.stdout)
    assert re.search(r"2 +0\.500 +\[red\]K-2\[/red\]", result.stdout)
    assert "2 hits in 12 ms from index shop" in result.stdout
    assert service.received[0].part("image") == PNG
    assert service.received[0].request()["limit"] == 2


def test_an_id_an_address_and_a_filter_reach_the_service() -> None:
    with serving(answer) as service:
        search(service.url, IMAGE_ID, "-i", "shop", "--filter", '{"eq": {"category": "Chairs"}}')
        search(service.url, "https://images.example/x.jpg")
    by_id, by_address = (received.request() for received in service.received)
    assert by_id["query"] == {"image_id": IMAGE_ID}
    assert (by_id["index"], by_id["filter"]) == ("shop", {"eq": {"category": "Chairs"}})
    assert by_address["query"] == {"image_url": "https://images.example/x.jpg"}


def test_a_filter_as_text_reaches_the_service_as_it_is() -> None:
    with serving(answer) as service:
        search(service.url, IMAGE_ID, "--filter", 'category = "Chairs" and price < 100')
    assert service.received[0].request()["filter"] == 'category = "Chairs" and price < 100'


@pytest.mark.parametrize(("option", "sent"), [("true", True), ("false", False), ("exact", "exact")])
def test_reranking_can_be_asked_for(option: str, sent: bool | str) -> None:
    with serving(answer) as service:
        search(service.url, IMAGE_ID, "--rerank", option)
        search(service.url, IMAGE_ID)
        refused = search(service.url, IMAGE_ID, "--rerank", "perhaps")
    asked, default = (received.request() for received in service.received)
    assert asked["rerank"] == sent
    assert "rerank" not in default
    assert refused.exit_code == 2


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"reranked": True}, "from index shop; reranked"),
        (
            {"reranked": True, "rerank_reason": "1 of 2 candidates have patches"},
            "from index shop; reranked (1 of 2 candidates have patches)",
        ),
        ({"rerank_reason": "not measured"}, "from index shop; not reranked: not measured"),
    ],
)
def test_whether_hits_were_reranked_is_said(said: dict[str, Any], line: str) -> None:
    def told(received: Received) -> Reply:
        status, headers, body = answer(received)
        return status, headers, json.dumps({**json.loads(body), **said}).encode()

    with serving(told) as service:
        assert line in search(service.url, IMAGE_ID).stdout


def test_json_is_the_services_answer(picture: Path) -> None:
    with serving(answer) as service:
        result = search(service.url, str(picture), "--json")
    assert [hit["score"] for hit in json.loads(result.stdout)["hits"]] == [0.91, 0.5]


def test_more_hits_than_a_request_may_ask_for_are_a_usage_error() -> None:
    with serving(answer) as service:
        result = search(service.url, IMAGE_ID, "--limit", "100000")
    assert result.exit_code == 2
    assert "less than or equal to 10000" in result.stderr
    assert service.received == []


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    with serving(answer) as service:
        result = search(service.url, str(empty))
    assert isinstance(result.exception, ProblemError)
    assert result.exception.detail == f"{empty} is empty: name a picture"
    assert service.received == []


def hit(**fields: Any) -> dict[str, Any]:
    """A hit whose name is as long as its category."""
    return {
        "image_id": IMAGE_ID,
        "score": 0.5,
        "metadata": {"name": "A long name " * 8},
        "category": "c" * 50,
        **fields,
    }


@pytest.mark.parametrize("terminal", [{}, {"FORCE_COLOR": "1"}])
def test_ids_stay_whole_however_narrow_the_output(terminal: dict[str, str]) -> None:
    long = hit(url="https://shop.example/" + "u" * 200)
    common = {"query_id": str(uuid.uuid4()), "index": "shop", "generation": "live", "fingerprint": "f"}
    document = {**common, "hits": [hit(), long], "complete": True, "took_ms": 1.0}
    with serving(lambda _received: reply(document)) as service:
        environment = {"VISUALINDEX_URL": service.url, "COLUMNS": "80", "NO_COLOR": "1", **terminal}
        result = CliRunner().invoke(app, ["search", IMAGE_ID], env=environment)
    assert IMAGE_ID in result.stdout
    assert "…" not in result.stdout
    widest = max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", result.stdout).splitlines()))
    assert (widest <= 80) == bool(terminal)


def test_a_page_that_cannot_be_written_comes_after_the_hits(picture: Path, tmp_path: Path) -> None:
    with serving(answer) as service:
        result = search(service.url, str(picture), "--html", str(tmp_path / "missing" / "hits.html"))
    assert "2 hits" in result.stdout
    assert isinstance(result.exception, ProblemError)
    assert "cannot be written: No such file" in result.exception.detail


def test_a_page_holds_its_pictures_and_trusts_no_text(picture: Path, tmp_path: Path) -> None:
    with serving(answer) as service:
        search(service.url, str(picture), "--html", str(tmp_path / "hits.html"))
    page = (tmp_path / "hits.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert page.count("data:image/webp;base64,") == 1
    assert "Chair &lt;b&gt;&amp;" in page
    assert "javascript:" not in page
    assert "<script" not in page
    assert set(re.findall(r'(?:src|href)="([a-z]+):', page)) == {"data", "https"}
    assert "/api/thumbnails/320" in [received.path for received in service.received]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing-here"], "neither a file, an http"),
        ([IMAGE_ID, "--filter", "{"], "--filter is not JSON"),
        ([IMAGE_ID, "--filter", "[]"], "not a JSON object"),
        ([IMAGE_ID, "--index", "No Name"], "index: "),
        (["https://images.example/" + "x" * 5000], "image_url: "),
        ([str(Path(__file__).parent)], "is a folder: name one picture"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_is_sent(arguments: list[str], message: str) -> None:
    with serving(answer) as service:
        result = search(service.url, *arguments)
    assert isinstance(result.exception, ProblemError)
    assert message in result.exception.detail
    assert service.received == []
