"""The page at `/`, as a visitor with a browser meets it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.serving.conftest import spec_document
from tests.serving.pictures import picture

from .conftest import ServeSite, Site, Visit

pytestmark = pytest.mark.browser

_PICTURES = 30


@pytest.fixture(scope="module")
def site(serve_site: ServeSite) -> Iterator[Site]:
    """A gateway with thirty pictures, all of which the shard has."""
    with serve_site(spec_document()) as running:
        for seed in range(_PICTURES):
            token = put(running, seed)
        caught_up = running.http.post("/api/search", files={"image": picture(0)}, data={"token": token})
        caught_up.raise_for_status()
        yield running


def put(site: Site, seed: int, **headers: str) -> str:
    """Index a picture; its write's token."""
    fields = {
        "key": f"k{seed}",
        "category": "Shapes",
        "metadata": f'{{"name": "Thing {seed}", "seed": {seed}, "note": "<b>not markup</b>"}}',
        "url": "javascript:alert(1)" if seed == 1 else f"https://shop.example/{seed}",
    }
    files = {"image": ("p.jpg", picture(seed))}
    answer = site.http.post("/api/images", files=files, data=fields, headers=headers)
    answer.raise_for_status()
    return str(answer.json()["token"])


def upload(seed: int) -> dict[str, object]:
    return {"name": f"{seed}.jpg", "mimeType": "image/jpeg", "buffer": picture(seed)}


def test_a_picture_finds_itself_and_then_what_is_like_a_hit(
    site: Site, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    visited = visit(site)
    page = visited.page
    expect(page.get_by_role("status")).to_have_text(f"{_PICTURES} pictures can be searched.")

    page.get_by_label("Choose a picture").set_input_files(upload(7))
    hits = page.get_by_role("listitem")
    expect(hits).to_have_count(24)
    expect(hits.first.get_by_role("heading")).to_have_text("Thing 7")
    expect(hits.first.get_by_text("Shapes")).to_be_visible()
    expect(hits.first.get_by_text("<b>not markup</b>").first).to_be_visible()
    page.wait_for_function("() => document.querySelector('.hit img').naturalWidth > 0")

    page.get_by_role("button", name="Show more").click()
    expect(hits).to_have_count(_PICTURES)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()

    page.get_by_role("button", name="More like this: Thing 7").click()
    expect(page.get_by_role("heading", name="Like Thing 7")).to_be_focused()
    expect(hits.first.get_by_role("heading")).not_to_have_text("Thing 7")
    page.go_back()
    expect(hits.first.get_by_role("heading")).to_have_text("Thing 7")

    page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert visited.complaints == []
    assert visited.hosts() == {urlsplit(site.address).netloc}
