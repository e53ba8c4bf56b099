"""`visualindex ingest` sends every picture once, goes on where it stopped, and accounts for what was refused."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from visualindex.api.images import IndexView
from visualindex.cli.journal import Journal, journal_path, signature
from visualindex.cli.sources import Item, Unusable, read_source
from visualindex.errors import ProblemError

from .scripted_service import Received, Reply, ScriptedService, problem, reply, serving

VIEW = IndexView(name="shop", encoder="e", fingerprint="f", dimension=256, images=7, replicas=[]).model_dump(
    mode="json"
)


class Shop:
    """What the scripted service knows: the pictures it took, and the keys it refuses."""

    def __init__(self) -> None:
        self.stored: dict[str, tuple[dict[str, Any], bytes | None]] = {}
        self.refused: dict[str, Reply] = {}
        self.images = 7

    def answer(self, received: Received) -> Reply:
        """Answer one request of the contract."""
        if received.path == "/api/indexes":
            return reply([{**VIEW, "images": self.images}])
        request = received.request()
        if request["key"] in self.refused:
            return self.refused[request["key"]]
        multipart = received.headers["content-type"].startswith("multipart")
        self.stored[request["key"]] = request, received.part("image") if multipart else None
        written = {"image_id": "0f8fad5b-d9cb-569f-a165-70867728950e", "created": True, "token": "t"}
        return reply({**written, "embedding": {"state": "stored", "fingerprint": "f", "dimension": 256}}, 201)


@pytest.fixture
def shop() -> Shop:
    """A shop that takes everything."""
    return Shop()


@pytest.fixture
def service(shop: Shop) -> Iterator[ScriptedService]:
    """The shop behind HTTP."""
    with serving(shop.answer) as running:
        yield running


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with three pictures and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.PNG", "sub/c.webp"):
        (folder / name).write_bytes(name.encode())
    (folder / "notes.md").write_text("no picture")
    return folder


def command_line(
    tmp_path: Path, service: ScriptedService, *arguments: str
) -> tuple[list[str], dict[str, str]]:
    """The command and its environment, with its state below `tmp_path`."""
    command = [sys.executable, "-c", "from visualindex.cli import main; main()", "ingest", *arguments]
    return command, {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "VISUALINDEX_URL": service.url}


def ingest(tmp_path: Path, service: ScriptedService, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `tmp_path` to its end."""
    command, variables = command_line(tmp_path, service, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=variables)


def test_a_folder_is_sent_with_relative_paths_as_keys(
    tmp_path: Path, pictures: Path, shop: Shop, service: ScriptedService
) -> None:
    result = ingest(tmp_path, service, str(pictures))
    assert (result.returncode, result.stdout) == (0, "3 stored, 0 already there, 0 failed\n")
    assert sorted(shop.stored) == ["a.jpg", "b.PNG", "sub/c.webp"]
    assert shop.stored["sub/c.webp"] == (
        {"index": "shop", "key": "sub/c.webp"},
        b"sub/c.webp",
    )


def test_a_second_run_sends_only_what_is_new_or_changed(
    tmp_path: Path, pictures: Path, shop: Shop, service: ScriptedService
) -> None:
    ingest(tmp_path, service, str(pictures))
    shop.stored.clear()
    (pictures / "a.jpg").write_bytes(b"another picture")
    (pictures / "d.jpg").write_bytes(b"new")
    result = ingest(tmp_path, service, str(pictures))
    assert result.stdout == "2 stored, 2 already there, 0 failed\n"
    assert sorted(shop.stored) == ["a.jpg", "d.jpg"]


def test_again_sends_everything(tmp_path: Path, pictures: Path, shop: Shop, service: ScriptedService) -> None:
    ingest(tmp_path, service, str(pictures))
    assert ingest(tmp_path, service, "--again", str(pictures)).stdout.startswith("3 stored")


def test_an_index_that_was_set_up_anew_gets_everything(
    tmp_path: Path, pictures: Path, shop: Shop, service: ScriptedService
) -> None:
    ingest(tmp_path, service, str(pictures))
    shop.images = 0
    assert ingest(tmp_path, service, str(pictures)).stdout.startswith("3 stored")


def test_a_refused_picture_is_listed_and_the_rest_goes_on(
    tmp_path: Path, pictures: Path, shop: Shop, service: ScriptedService
) -> None:
    shop.refused["b.PNG"] = problem("invalid-image", 422, "truncated")
    result = ingest(tmp_path, service, str(pictures))
    assert result.returncode == 1
    assert result.stdout == "2 stored, 0 already there, 1 failed\n"
    failures = [
        json.loads(line) for line in (tmp_path / "visualindex-failures.jsonl").read_text().splitlines()
    ]
    assert [failure["key"] for failure in failures] == ["b.PNG"]
    assert failures[0]["problem"]["detail"] == "truncated"
    shop.refused.clear()
    assert ingest(tmp_path, service, str(pictures)).stdout == "1 stored, 2 already there, 0 failed\n"
    assert not (tmp_path / "visualindex-failures.jsonl").exists()


def test_a_list_of_failures_that_cannot_be_written_hides_no_outcome(
    tmp_path: Path, pictures: Path, shop: Shop, service: ScriptedService
) -> None:
    shop.refused["a.jpg"] = problem("invalid-image", 422, "broken")
    nowhere = str(tmp_path / "missing" / "failures.jsonl")
    result = ingest(tmp_path, service, str(pictures), "--failures", nowhere)
    assert result.returncode == 1
    assert "2 stored, 0 already there, 1 failed" in result.stdout
    assert f"{pictures / 'a.jpg'}: broken" in result.stderr
    assert f"{nowhere} cannot be written: No such file or directory" in result.stderr
    assert "Traceback" not in result.stderr
    as_json = ingest(tmp_path, service, str(pictures), "--failures", nowhere, "--json")
    assert json.loads(as_json.stdout) == {
        "stored": 0,
        "skipped": 2,
        "failed": 1,
        "stopped": None,
        "failures": None,
    }


def test_a_folder_without_pictures_is_an_error(tmp_path: Path, service: ScriptedService) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.md").write_text("no picture")
    result = ingest(tmp_path, service, str(empty))
    assert (result.returncode, result.stdout) == (1, "")
    assert f"error: {empty} holds no pictures" in result.stderr


def test_hidden_files_and_folders_are_no_pictures(pictures: Path) -> None:
    (pictures / "._a.jpg").write_bytes(b"what macOS adds")
    (pictures / ".thumbnails").mkdir()
    (pictures / ".thumbnails" / "a.jpg").write_bytes(b"small")
    keys = [entry.key for entry in read_source(str(pictures)) if isinstance(entry, Item)]
    assert sorted(keys) == ["a.jpg", "b.PNG", "sub/c.webp"]


def test_a_hidden_folder_that_is_named_itself_is_read(pictures: Path) -> None:
    hidden = pictures.rename(pictures.with_name(".pictures"))
    assert len(list(read_source(str(hidden)))) == 3


def test_of_an_archive_it_is_told_who_reads_it(tmp_path: Path) -> None:
    (tmp_path / "shard-000.tar").write_bytes(b"")
    with pytest.raises(ProblemError, match="--server-side"):
        read_source(str(tmp_path / "shard-000.tar"))


def test_a_line_that_is_no_address_is_named(tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("chair.jpg\n\nHTTPS://images.example/a.jpg\n")
    wrong, right = read_source(str(listing))
    assert wrong == Unusable(f"{listing}:1", "line 1 is not an http(s) address")
    assert isinstance(right, Item)


def test_a_problem_that_all_would_meet_stops_the_run(
    tmp_path: Path, pictures: Path, shop: Shop, service: ScriptedService
) -> None:
    shop.refused = dict.fromkeys(
        ["a.jpg", "b.PNG", "sub/c.webp"], problem("forbidden", 403, "not your index")
    )
    result = ingest(tmp_path, service, "--concurrency", "1", str(pictures))
    assert result.returncode == 1
    assert result.stdout == "0 stored, 0 already there, 1 failed\n"
    assert "stopped: not your index" in result.stderr


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs started in the background ignore Ctrl-C, and pass that on to those they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path: Path, pictures: Path, shop: Shop) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(received: Received) -> Reply:
        if b'"b.PNG"' in received.body and not go_on.is_set():
            asked.set()
            go_on.wait(60)
        return shop.answer(received)

    with serving(answer) as service:
        command, variables = command_line(tmp_path, service, "--concurrency", "1", str(pictures))
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=variables
        ) as process:
            assert asked.wait(60)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
            go_on.set()
        assert process.returncode == 130
        assert "interrupted with 1 stored" in stderr
        assert ingest(tmp_path, service, str(pictures)).stdout == "2 stored, 1 already there, 0 failed\n"


def test_a_manifests_columns_become_fields_and_metadata(
    tmp_path: Path, pictures: Path, shop: Shop, service: ScriptedService
) -> None:
    manifest = pictures / "list.csv"
    manifest.write_text(
        "path,key,category,url,price,sold,sku,note\n"
        "a.jpg,A-1,Chairs,https://shop.example/a,129.5,true,00123,\n"
        "gone.jpg,A-2,,,,,,\n"
        ",,,,,,,nothing here\n"
        "b.PNG,A-1,,,,,,twice\n"
    )
    result = ingest(tmp_path, service, "--json", str(manifest))
    outcome = json.loads(result.stdout)
    assert (outcome["stored"], outcome["failed"], result.returncode) == (1, 3, 1)
    assert shop.stored["A-1"][0] == {
        "index": "shop",
        "key": "A-1",
        "category": "Chairs",
        "url": "https://shop.example/a",
        "metadata": {"price": 129.5, "sold": True, "sku": "00123"},
    }
    listed = [json.loads(line) for line in Path(tmp_path / outcome["failures"]).read_text().splitlines()]
    reasons = {failure["place"].rsplit(":", 1)[-1]: failure["problem"]["detail"] for failure in listed}
    assert "No such file" in reasons["3"]
    assert "names no picture" in reasons["4"]
    assert "already used" in reasons["5"]


def test_addresses_are_left_to_the_service_to_fetch(
    tmp_path: Path, shop: Shop, service: ScriptedService
) -> None:
    (tmp_path / "list.txt").write_text(
        "# pictures\nhttps://images.example/1.jpg\nhttps://images.example/2.jpg\n"
    )
    ingest(tmp_path, service, str(tmp_path / "list.txt"))
    request, image = shop.stored["https://images.example/1.jpg"]
    assert (request["image_url"], image) == ("https://images.example/1.jpg", None)


def test_a_source_that_is_none_is_one_line(tmp_path: Path, service: ScriptedService) -> None:
    result = ingest(tmp_path, service, str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "does not exist" in result.stderr


def test_a_folder_with_a_manifest_is_read_by_it(pictures: Path) -> None:
    line = {"path": "a.jpg", "key": "k", "category": "c", "tags": ["x"], "metadata": {"y": 1}}
    (pictures / "manifest.jsonl").write_text(json.dumps(line) + "\n[]\n{\n")
    item, array, broken = read_source(str(pictures))
    assert isinstance(item, Item)
    assert (item.path, item.key, item.metadata) == (pictures / "a.jpg", "k", {"tags": ["x"], "y": 1})
    assert isinstance(array, Unusable)
    assert isinstance(broken, Unusable)
    assert broken.place.endswith(":3")


def test_parquet_keeps_types(tmp_path: Path) -> None:
    import datetime as dt

    day = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - as Parquet files often hold them
    table = pa.table({"image_url": ["https://x.example/1", None], "price": [1.5, 2.0], "day": [day, day]})
    pyarrow.parquet.write_table(table, tmp_path / "list.parquet")
    first, second = read_source(str(tmp_path / "list.parquet"))
    assert isinstance(first, Item)
    assert first.metadata == {"price": 1.5, "day": "2026-01-02T03:04:05"}
    assert isinstance(second, Unusable)


def test_an_unknown_kind_of_file_names_the_known(tmp_path: Path) -> None:
    (tmp_path / "list.xlsx").write_text("")
    with pytest.raises(ProblemError, match=r"\.csv, \.jsonl"):
        list(read_source(str(tmp_path / "list.xlsx")))


def test_a_journal_survives_a_line_that_was_cut_off(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.add("a", "1")
        journal.add("b", "2")
    with (tmp_path / "j.jsonl").open("a") as file:
        file.write('["c", "3')
    with Journal(tmp_path / "j.jsonl") as journal:
        assert journal.holds("b", "2")
        assert not journal.holds("c", "3")
        journal.add("d", "4")
    with Journal(tmp_path / "j.jsonl") as journal:
        assert [journal.holds(key, mark) for key, mark in (("a", "1"), ("b", "2"), ("d", "4"))] == [True] * 3


def test_a_journal_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl"), pytest.raises(ProblemError, match="another ingest"):
        Journal(tmp_path / "j.jsonl")


def test_journals_of_different_jobs_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert journal_path("http://a", "shop") != journal_path("http://b", "shop")
    assert journal_path("http://a", "shop").is_relative_to(tmp_path)


def test_a_signature_follows_the_file_and_the_fields(pictures: Path) -> None:
    item = Item("x", "k", path=pictures / "a.jpg", metadata={"a": 1})
    assert signature(item) == signature(item)
    assert signature(item) != signature(Item("x", "k", path=pictures / "a.jpg", metadata={"a": 2}))
    before = signature(item)
    (pictures / "a.jpg").write_bytes(b"longer than it was before")
    assert signature(item) != before


def test_with_several_indexes_the_choices_are_named(tmp_path: Path, pictures: Path) -> None:
    with serving(lambda received: reply([VIEW, {**VIEW, "name": "bags"}])) as service:
        result = ingest(tmp_path, service, str(pictures))
        wrong = ingest(tmp_path, service, "-i", "shoes", str(pictures))
    assert "several indexes or none (shop, bags): name one with --index" in result.stderr
    assert "no index 'shoes': it has shop, bags" in wrong.stderr
