"""Batches that the service takes in by itself: from folders, manifests and archives; each picture once, whatever happens."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Served, put, spec_document
from .conftest import found_keys as found
from .pictures import picture
from .test_checks import checks_of, kinds
from .test_generations import finished


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "chairs").mkdir(parents=True)
    for seed in range(3):
        (folder / "chairs" / f"{seed}.jpg").write_bytes(picture(seed))
    return folder


def allowing(folder: Path, **spec: Any) -> dict[str, Any]:
    return spec_document(ingest={"folders": [str(folder)]}, **spec)


async def ask(served: Served, *sources: dict[str, Any]) -> dict[str, Any]:
    answer = await served.client.post("/internal/index", json={"sources": list(sources)})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def taken_in(served: Served, *sources: dict[str, Any]) -> dict[str, Any]:
    """The result of a batch that ended well."""
    job = await finished(served, await ask(served, *sources), within_s=120)
    assert (job["state"], job["problem"]) == ("done", None)
    result: dict[str, Any] = job["result"]
    return result


def counts(result: dict[str, Any]) -> dict[str, int]:
    """What is not zero of what was counted."""
    return {name: value for name, value in result.items() if value and name not in ("sources", "bytes")}


async def images(served: Served) -> dict[str, dict[str, Any]]:
    listed = (await served.client.get("/api/images", params={"limit": 500})).json()["images"]
    return {image["key"]: image for image in listed}


async def test_a_folder_is_taken_in_once_and_found(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served:
        source = {"location": str(folder), "category": "folder"}
        assert counts(await taken_in(served, source)) == {"read": 3, "created": 3}
        stored = await images(served)
        assert {key: image["category"] for key, image in stored.items()} == {
            f"chairs/{seed}.jpg": "chairs" for seed in range(3)
        }
        assert (await found(served, 1, consistency="strong"))[0] == "chairs/1.jpg"
        assert counts(await taken_in(served, source)) == {"read": 3, "unchanged": 3}
        assert await images(served) == stored


async def test_what_changed_is_replaced_and_what_others_said_of_it_stays(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served:
        source = {"location": str(folder)}
        await taken_in(served, source)
        image_id = (await images(served))["chairs/0.jpg"]["image_id"]
        patched = await served.client.patch(f"/api/images/{image_id}", json={"metadata": {"price": 9}})
        assert patched.status_code == 200
        (folder / "chairs" / "0.jpg").write_bytes(picture(7))
        assert counts(await taken_in(served, source)) == {"read": 3, "unchanged": 2, "replaced": 1}
        changed = (await images(served))["chairs/0.jpg"]
        assert changed["metadata"] == {"price": 9}
        assert (await found(served, 7, consistency="strong"))[0] == "chairs/0.jpg"


async def test_known_content_under_another_key_is_not_encoded_again(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served:
        await put(served, 1)
        result = await taken_in(served, {"location": str(folder)})
        assert counts(result) == {"read": 3, "created": 3, "reused": 1}
        assert set((await found(served, 1, consistency="strong"))[:2]) == {"k1", "chairs/1.jpg"}


@pytest.mark.parametrize("location", ["", "list.csv"], ids=["objects", "a manifest"])
async def test_originals_that_a_check_found_missing_or_damaged_are_put_again(
    serve: Any, folder: Path, location: str
) -> None:
    names = [f"chairs/{seed}.jpg" for seed in range(3)]
    (folder / "list.csv").write_text("\n".join(["object", *names, ""]))
    async with serve(allowing(folder)) as served, checks_of(served) as checking:
        source = {"location": str(folder / location)}
        await taken_in(served, source)
        stored = await images(served)
        gone, damaged, _ = [await checking.original(stored[name]["image_id"]) for name in names]
        await checking.store.delete([gone])
        await checking.store.put(damaged, picture(1)[:-1], content_type="image/jpeg")
        assert counts(await taken_in(served, source)) == {"read": 3, "unchanged": 3}

        found = {"missing-original": (1, 0), "damaged-original": (1, 0)}
        report = await checking.check(originals_share=1)
        assert kinds(report) == found
        assert all("a batch on the server" in one["action"] for one in report["findings"])
        assert kinds(await checking.check(originals_share=0)) == found
        assert counts(await taken_in(served, source)) == {"read": 3, "unchanged": 3, "restored": 2}
        assert [await checking.store.get(key) for key in (gone, damaged)] == [picture(0), picture(1)]
        assert counts(await taken_in(served, source)) == {"read": 3, "unchanged": 3}
        assert (await checking.check(originals_share=1))["findings"] == []


async def test_a_missing_original_is_put_again_by_an_image_of_the_same_content(
    serve: Any, folder: Path
) -> None:
    async with serve(allowing(folder)) as served, checks_of(served) as checking:
        key = await checking.original((await put(served, 1))["image_id"])
        await checking.store.delete([key])
        assert kinds(await checking.check()) == {"missing-original": (1, 0)}
        assert counts(await taken_in(served, {"location": str(folder)})) == {
            "read": 3,
            "created": 3,
            "reused": 1,
        }
        assert await checking.store.get(key) == picture(1)


async def test_refused_entries_are_told_with_their_reasons_and_hold_nothing_up(
    serve: Any, folder: Path
) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    async with serve(allowing(folder)) as served:
        job = await finished(served, await ask(served, {"location": str(folder)}))
        (source,) = job["result"]["sources"]
        assert (source["created"], source["refused"]) == (3, 1)
        (refused,) = source["examples"]
        assert (refused["place"], refused["type"]) == ("broken.jpg", "invalid-image")
        lines = await served.client.get(f"/api/indexes/things/jobs/{job['job_id']}/refused")
        assert lines.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line) for line in lines.text.splitlines()] == [refused]


async def test_images_go_whose_files_are_gone_if_that_is_asked_for(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served:
        await put(served, 9)
        await taken_in(served, {"location": str(folder)})
        (folder / "chairs" / "2.jpg").unlink()
        assert counts(await taken_in(served, {"location": str(folder)})) == {"read": 2, "unchanged": 2}
        mirrored = {"location": str(folder), "remove_missing": True}
        assert counts(await taken_in(served, mirrored)) == {"read": 2, "unchanged": 2, "removed": 1}
        assert set(await images(served)) == {"k9", "chairs/0.jpg", "chairs/1.jpg"}
        for seed in range(2):
            (folder / "chairs" / f"{seed}.jpg").unlink()
        (source,) = (await taken_in(served, mirrored))["sources"]
        assert source["removed"] == 0
        assert "lists no picture" in source["note"]


async def test_an_image_of_other_content_does_not_go_with_its_file(serve: Any, folder: Path) -> None:
    async with serve(allowing(folder)) as served:
        await taken_in(served, {"location": str(folder)})
        over = await served.client.post(
            "/api/images", files={"image": ("p.jpg", picture(8))}, data={"key": "chairs/2.jpg"}
        )
        assert over.status_code == 200
        (folder / "chairs" / "2.jpg").unlink()
        await taken_in(served, {"location": str(folder), "remove_missing": True})
        assert "chairs/2.jpg" in await images(served)


CSV = """key,object,category,price,metadata
a,chairs/0.jpg,Chairs,9.5,"{""colour"": ""red""}"
b,chairs/1.jpg,,,
c,chairs/none.jpg,,,
d,,,,
"""


async def test_a_manifest_names_objects_with_their_fields(serve: Any, folder: Path) -> None:
    (folder / "list.csv").write_text(CSV)
    async with serve(allowing(folder)) as served:
        result = await taken_in(served, {"location": str(folder / "list.csv")})
        assert counts(result) == {"read": 4, "created": 2, "refused": 2}
        stored = await images(served)
        assert (stored["a"]["category"], stored["a"]["metadata"]) == (
            "Chairs",
            {"price": 9.5, "colour": "red"},
        )
        examples = result["sources"][0]["examples"]
        assert [one["place"] for one in examples] == [f"{folder}/list.csv:{line}" for line in (4, 5)]
        reasons = [example["reason"] for example in examples]
        assert "chairs/none.jpg" in reasons[0]
        assert "names no picture" in reasons[1]


async def test_addresses_in_a_manifest_are_held_to_the_rules_of_fetching(serve: Any, folder: Path) -> None:
    (folder / "list.jsonl").write_text('{"key": "x", "image_url": "http://127.0.0.1/x.jpg"}\n')
    async with serve(allowing(folder)) as served:
        result = await taken_in(served, {"location": str(folder / "list.jsonl")})
        (example,) = result["sources"][0]["examples"]
        assert example["type"] == "fetch-refused"


def tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


async def test_a_webdataset_archive_carries_pictures_with_their_sidecars(serve: Any, folder: Path) -> None:
    tar(
        folder / "shard-000.tar",
        {
            "0001.jpg": picture(0),
            "0001.json": b'{"price": 3, "category": "Lamps"}',
            "0001.txt": b"a lamp",
            "0002.jpg": picture(1),
            "0003.json": b"{}",
            "0004.jpg": picture(2),
            "0004.json": b"[]",
        },
    )
    async with serve(allowing(folder)) as served:
        result = await taken_in(served, {"location": str(folder / "shard-000.tar")})
        assert counts(result) == {"read": 4, "created": 2, "refused": 2}
        bare, broken = result["sources"][0]["examples"]
        assert (bare["key"], broken["key"]) == ("0003", "0004")
        assert "has no picture, but 0003.json" in bare["reason"]
        lamp = (await images(served))["0001"]
        assert (lamp["category"], lamp["metadata"]) == ("Lamps", {"price": 3, "text": "a lamp"})


async def test_a_source_that_cannot_be_read_does_not_keep_the_next_from_being_taken_in(
    serve: Any, folder: Path
) -> None:
    whole = folder / "whole.tar"
    tar(whole, {f"{seed:04}.jpg": picture(seed) for seed in range(3)})
    (folder / "cut.tar").write_bytes(whole.read_bytes()[:-12_000])
    async with serve(allowing(folder)) as served:
        result = await taken_in(
            served,
            {"location": str(folder / "cut.tar")},
            {"location": str(folder / "none.csv")},
            {"location": str(folder / "chairs")},
        )
        cut, missing, chairs = result["sources"]
        assert "cut off" in cut["examples"][-1]["reason"]
        assert cut["created"] >= 1
        assert "none.csv" in missing["examples"][0]["reason"]
        assert chairs["created"] == 3
        states = [source["state"] for source in result["sources"]]
        assert states == ["broken-off", "broken-off", "done"]


@pytest.mark.parametrize(
    ("source", "slug"),
    [
        (lambda folder: {"location": str(folder.parent)}, "forbidden"),
        (lambda folder: {"location": f"{folder}/../elsewhere"}, "forbidden"),
        (lambda folder: {"location": "s3://somebodys/bucket"}, "forbidden"),
        (lambda folder: {"location": "chairs"}, "invalid-request"),
        (lambda folder: {"location": str(folder / "x.csv"), "remove_missing": True}, "invalid-request"),
        (lambda folder: {"location": str(folder / "x"), "format": "manifest"}, "invalid-request"),
    ],
)
async def test_what_the_spec_does_not_allow_is_refused_before_a_job_is_made(
    serve: Any, folder: Path, source: Callable[[Path], dict[str, Any]], slug: str
) -> None:
    async with serve(allowing(folder)) as served:
        answer = await served.client.post("/internal/index", json={"sources": [source(folder)]})
        assert answer.json()["type"].endswith(slug), answer.text
        assert (await served.client.get("/api/indexes/things/jobs")).json() == []


async def test_links_that_lead_out_of_a_folder_are_not_followed(serve: Any, folder: Path) -> None:
    secret = folder.parent / "secret.jpg"
    secret.write_bytes(picture(5))
    (folder / "link.jpg").symlink_to(secret)
    async with serve(allowing(folder)) as served:
        assert counts(await taken_in(served, {"location": str(folder)})) == {"read": 3, "created": 3}
        assert "link.jpg" not in await images(served)
