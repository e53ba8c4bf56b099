"""Collections come out of packages of the real formats, described and complete; a missing apt says what to do."""

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visualindex.collections import fetch_collection, read_manifest
from visualindex.collections.debian import cache_folder, unpack, unpacked_package
from visualindex.collections.properties import parse_properties
from visualindex.errors import ProblemError

CATALOG = """\
# a catalogue
name=Tiny
license=Public domain
id#1=Tiny#sofa
name#1=Sofa \\u00e9l\\u00e9gant
tags#1=Seat, , Soft ,
category#1=Living room
icon#1=/tiny/sofa.png
creator#1=A. Maker

id#10=Tiny#lamp/../../etc
name#10=Lamp
category#10=Lights
icon#10=/tiny/lamp.PNG
name#2=A thing without a picture
"""


def png(colour: str) -> bytes:
    """A small picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that holds both packages in miniature, as if they had been fetched."""
    packages = tmp_path / "cache" / "packages"
    furniture = packages / "sweethome3d-furniture" / "usr/share/sweethome3d/furniture"
    furniture.mkdir(parents=True)
    with zipfile.ZipFile(furniture / "Tiny.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", CATALOG.encode("latin-1"))
        archive.writestr("tiny/sofa.png", png("red"))
        archive.writestr("tiny/lamp.PNG", png("yellow"))
    stamps = packages / "tuxpaint-stamps-default" / "usr/share/tuxpaint/stamps"
    for name in ("animals/birds/crow", "animals/birds/crow_mirror", "food/pear"):
        picture = stamps / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(png("green"))
    (stamps / "animals/birds/crow.txt").write_text("A crow.\nde.utf8=Eine Krähe.\n", encoding="utf-8")
    (stamps / "food/pear.txt").write_text("")
    return tmp_path / "cache"


def test_furniture_has_names_tags_and_pictures(cache: Path, tmp_path: Path) -> None:
    collection = fetch_collection("furniture", tmp_path / "out", cache=cache)
    sofa, lamp = collection.items
    assert (sofa.key, sofa.category) == ("Tiny#sofa", "Living room")
    assert sofa.metadata == {
        "name": "Sofa élégant",
        "tags": ["Seat", "Soft"],
        "creator": "A. Maker",
        "license": "Public domain",
    }
    assert (lamp.category, lamp.metadata["tags"]) == ("Lights", [])
    assert (collection.root / sofa.path).read_bytes() == png("red")
    assert (collection.root / lamp.path).read_bytes() == png("yellow")


def test_a_hostile_id_cannot_leave_the_folder(cache: Path, tmp_path: Path) -> None:
    lamp = fetch_collection("furniture", tmp_path / "out", cache=cache).items[1]
    assert (tmp_path / "out" / lamp.path).resolve().is_relative_to(tmp_path / "out" / "images")


def test_stamps_have_captions_and_no_mirrored_twins(cache: Path, tmp_path: Path) -> None:
    crow, pear = fetch_collection("stamps", tmp_path / "out", cache=cache).items
    assert (crow.key, crow.category) == ("animals/birds/crow", "animals")
    assert crow.metadata == {"name": "A crow.", "tags": ["birds"]}
    assert (pear.category, pear.metadata["name"]) == ("food", "")


def test_a_second_fetch_reads_the_manifest_and_needs_no_package(cache: Path, tmp_path: Path) -> None:
    first = fetch_collection("stamps", tmp_path / "out", cache=cache)
    shutil.rmtree(cache)
    assert (
        fetch_collection("stamps", tmp_path / "out", cache=cache) == first == read_manifest(tmp_path / "out")
    )


def test_an_interrupted_fetch_is_not_taken_for_complete(cache: Path, tmp_path: Path) -> None:
    complete = fetch_collection("stamps", tmp_path / "out", cache=cache)
    complete.manifest.unlink()
    (tmp_path / "out" / complete.items[0].path).unlink()
    again = fetch_collection("stamps", tmp_path / "out", cache=cache)
    assert all((again.root / item.path).is_file() for item in again.items)


def test_an_unknown_collection_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="choose one of furniture, stamps"):
        fetch_collection("shoes", tmp_path)


def test_a_damaged_package_is_named_and_leaves_no_manifest(cache: Path, tmp_path: Path) -> None:
    catalog = cache / "packages/sweethome3d-furniture/usr/share/sweethome3d/furniture/Tiny.sh3f"
    catalog.write_bytes(b"no zip")
    with pytest.raises(ProblemError, match=r"sweethome3d-furniture is not as expected .* fetch it again"):
        fetch_collection("furniture", tmp_path / "out", cache=cache)
    catalog.unlink()
    with pytest.raises(ProblemError, match="holds no pictures"):
        fetch_collection("furniture", tmp_path / "out", cache=cache)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_without_apt_the_message_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProblemError, match="no apt: use pictures of your own, for the demo with IMAGES=dir"):
        fetch_collection("furniture", tmp_path / "out", cache=tmp_path / "cache")


needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get")
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


@needs_apt
def test_a_package_that_apt_does_not_know_says_to_update(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="sudo apt-get update"):
        unpacked_package("visualindex-no-such-package", tmp_path)
    assert list((tmp_path / "packages").iterdir()) == []


@needs_dpkg
def test_a_package_is_unpacked_and_nothing_of_it_is_run(tmp_path: Path) -> None:
    build, marker = tmp_path / "build", tmp_path / "was-run"
    (build / "DEBIAN").mkdir(parents=True)
    (build / "DEBIAN/control").write_text(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: tiny\n"
    )
    script = build / "DEBIAN/postinst"
    script.write_text(f"#!/bin/sh\ntouch {marker}\n")
    script.chmod(0o755)
    (build / "usr/share/tiny").mkdir(parents=True)
    (build / "usr/share/tiny/file").write_text("content")
    subprocess.run(
        [str(shutil.which("dpkg-deb")), "--build", str(build), str(tmp_path / "tiny.deb")],
        check=True,
        capture_output=True,
    )
    unpack(tmp_path / "tiny.deb", tmp_path / "files")
    assert (tmp_path / "files/usr/share/tiny/file").read_text() == "content"
    assert not marker.exists()


@needs_dpkg
def test_a_broken_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.deb").write_bytes(b"not a package")
    with pytest.raises(ProblemError, match=r"broken\.deb cannot be unpacked"):
        unpack(tmp_path / "broken.deb", tmp_path / "files")


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "visualindex"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "visualindex"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a=1\nb: 2\nc 3\n", {"a": "1", "b": "2", "c": "3"}),
        (b"  # no\n! no\n\n a = x # kept\n", {"a": "x # kept"}),
        (b"a=one \\\n   two\\\n\tthree\n", {"a": "one twothree"}),
        (b"a=end\\\\\nb=2\n", {"a": "end\\", "b": "2"}),
        (b"a\\=b\\ c=d\n", {"a=b c": "d"}),
        (b"a=\\u00e9\\t\\q\r\nb=\xe9\rc=\n", {"a": "é\tq", "b": "é", "c": ""}),
        (b"a\n", {"a": ""}),
        (b"a=1\na=2", {"a": "2"}),
    ],
)
def test_properties_follow_javas_rules(text: bytes, expected: dict[str, str]) -> None:
    assert parse_properties(text) == expected


@given(st.binary(max_size=300))
def test_any_bytes_are_properties_of_some_kind(data: bytes) -> None:
    parse_properties(data)
