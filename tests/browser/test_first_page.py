"""The page at `/`, as a visitor with a browser meets it."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import FilePayload, Locator, Page, Route, expect
from tests.browser.conftest import Open, Serve
from tests.browser.gateway import Site
from tests.serving.conftest import spec_document
from tests.serving.pictures import picture

from visualindex.catalog import Catalog
from visualindex.errors import ProblemType

pytestmark = pytest.mark.browser

WEB = Path(__file__).parents[2] / "serving" / "visualindex_serving" / "web"
PICTURES = 30
PAGE = 24
UNREADABLE = b"\xff\xd8\xff\xe0 not really a picture"


def fields(seed: int) -> dict[str, str]:
    metadata = {"name": f"Thing {seed}", "note": "<b>not markup</b>", "sizes": [seed, {"deep": None}]}
    url = "javascript:alert(1)" if seed == 1 else f"https://shop.example/{seed}"
    return {"key": f"k{seed}", "category": "Shapes", "metadata": json.dumps(metadata), "url": url}


@pytest.fixture(scope="module")
def site(serve: Serve) -> Iterator[Site]:
    """Two open indexes: `things` with pictures, `void` without."""
    with serve(spec_document("things"), spec_document("void")) as running:
        token = ""
        for seed in range(PICTURES):
            token = running.put(picture(seed), index="things", **fields(seed))
        running.catch_up(token, picture(0), index="things")
        yield running


def upload(data: bytes) -> FilePayload:
    return {"name": "query.jpg", "mimeType": "image/jpeg", "buffer": data}


def choose(page: Page, data: bytes) -> None:
    page.get_by_label("Choose a picture").set_input_files(upload(data))


def hits(page: Page) -> Locator:
    return page.get_by_role("list").get_by_role("listitem")


def expect_first(page: Page, title: str) -> None:
    expect(hits(page).first.get_by_role("heading")).to_have_text(title)


def expect_no_violations(page: Page) -> None:
    """axe finds nothing, whatever the rule's impact."""
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []


def test_a_picture_finds_itself_and_then_what_is_like_a_hit(site: Site, visit: Open, tmp_path: Path) -> None:
    visited = visit(site)
    page = visited.page
    expect(page.get_by_role("status")).to_have_text(f"{PICTURES} pictures can be searched.")

    choose(page, picture(7))
    expect(hits(page)).to_have_count(PAGE)
    expect_first(page, "Thing 7")
    expect(hits(page).first.get_by_text("1.000")).to_be_visible()
    expect(hits(page).first.get_by_text("Shapes")).to_be_visible()
    expect(hits(page).first.locator("img")).to_have_js_property("complete", True)
    assert hits(page).first.locator("img").evaluate("image => image.naturalWidth") == 320

    page.get_by_role("button", name="Show more").click()
    expect(hits(page)).to_have_count(PICTURES)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    expect(hits(page).nth(PAGE).get_by_role("button")).to_be_focused()
    assert len(set(hits(page).get_by_role("heading").all_inner_texts())) == PICTURES

    page.get_by_role("button", name="More like this: Thing 7", exact=True).click()
    expect(page.get_by_role("heading", name="Like Thing 7")).to_be_focused()
    expect(hits(page)).to_have_count(PAGE)
    expect(page.get_by_role("button", name="More like this: Thing 7", exact=True)).to_have_count(0)

    page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert visited.complaints == []
    assert visited.hosts() == {urlsplit(site.address).netloc}


def test_back_and_forward_return_to_earlier_searches(site: Site, visit: Open) -> None:
    page = visit(site).page
    choose(page, picture(4))
    expect_first(page, "Thing 4")
    page.get_by_role("button", name="More like this: Thing 4", exact=True).click()
    expect(page.get_by_role("heading", name="Like Thing 4")).to_be_visible()
    page.go_back()
    expect_first(page, "Thing 4")
    expect(page.get_by_role("heading", name="Like your picture")).to_be_visible()
    page.go_back()
    expect(hits(page)).to_have_count(0)
    page.go_forward()
    expect_first(page, "Thing 4")


def test_a_broken_file_is_explained_and_the_next_search_clears_it(site: Site, visit: Open) -> None:
    visited = visit(site)
    page = visited.page
    choose(page, UNREADABLE)
    alert = page.get_by_role("alert")
    refused = site.http.post("/api/search", files={"image": UNREADABLE}, data={"index": "things"}).json()
    expect(alert).to_contain_text(refused["title"])
    expect(alert).to_contain_text(refused["detail"])
    expect(alert).to_contain_text("choose another")
    expect(alert.get_by_role("button", name="Try again")).to_be_hidden()
    expect(hits(page)).to_have_count(0)
    expect_no_violations(page)
    assert len(visited.complaints) == 1
    assert re.search(rf"status of {refused['status']} .* /api/search$", visited.complaints[0])

    choose(page, picture(2))
    expect_first(page, "Thing 2")
    expect(alert).to_be_hidden()


def test_a_lost_connection_can_be_tried_again(site: Site, visit: Open) -> None:
    page = visit(site).page
    page.route("**/api/search", lambda route: route.abort("connectionrefused"), times=1)
    choose(page, picture(3))
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The service cannot be reached")
    alert.get_by_role("button", name="Try again").click()
    expect_first(page, "Thing 3")
    expect(alert).to_be_hidden()


def test_an_overloaded_service_says_when_to_come_back(site: Site, visit: Open) -> None:
    def busy(route: Route) -> None:
        problem = {"title": "The service is at capacity", "detail": "Too many requests are running."}
        headers = {"Content-Type": "application/problem+json", "Retry-After": "3"}
        route.fulfill(status=503, headers=headers, body=json.dumps(problem))

    page = visit(site).page
    page.route("**/api/search", busy, times=1)
    choose(page, picture(3))
    expect(page.get_by_role("alert")).to_contain_text("Too many requests are running.")
    expect(page.get_by_role("alert")).to_contain_text("Try again in 3 s.")
    page.get_by_role("button", name="Try again").click()
    expect_first(page, "Thing 3")


def test_the_newer_search_wins_even_if_the_older_answers_late(site: Site, visit: Open) -> None:
    held: list[Route] = []
    page = visit(site).page
    page.route("**/api/search", lambda route: held.append(route), times=1)
    with page.expect_request("**/api/search"):
        choose(page, picture(5))
    expect(page.get_by_role("status")).to_have_text("Searching…")
    choose(page, picture(6))
    expect_first(page, "Thing 6")
    held[0].continue_()
    page.wait_for_load_state("networkidle")
    expect_first(page, "Thing 6")


def test_an_index_can_be_chosen_and_an_empty_one_says_so(site: Site, visit: Open) -> None:
    page = visit(site).page
    choose(page, picture(7))
    expect_first(page, "Thing 7")
    page.get_by_label("Index").select_option("void")
    expect(page.get_by_role("status")).to_contain_text("There are no pictures yet")
    expect(hits(page)).to_have_count(0)
    page.go_back()
    expect_first(page, "Thing 7")
    expect(page.get_by_label("Index")).to_have_value("things")


def test_metadata_is_text_and_only_web_addresses_are_links(site: Site, visit: Open) -> None:
    page = visit(site).page
    choose(page, picture(1))
    expect_first(page, "Thing 1")
    first = hits(page).first
    expect(first.get_by_text("<b>not markup</b>").first).to_be_visible()
    expect(first.get_by_role("link")).to_have_count(0)
    expect(hits(page).nth(1).get_by_role("link")).to_have_attribute(
        "href", re.compile("^https://shop.example/")
    )
    first.get_by_label("Details of Thing 1").click()
    expect(first.get_by_text('1, {"deep":null}').last).to_be_visible()
    expect(first.get_by_text("k1", exact=True)).to_be_visible()


_TRANSFER = """async ([type, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "query.jpg", { type: "image/jpeg" }));
  const options = { bubbles: true, cancelable: true };
  const event = type === "paste"
    ? new ClipboardEvent(type, { ...options, clipboardData: data })
    : new DragEvent(type, { ...options, dataTransfer: data });
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(site: Site, visit: Open, way: str) -> None:
    page = visit(site).page
    page.evaluate(_TRANSFER, [way, list(picture(9))])
    expect_first(page, "Thing 9")


def test_the_keyboard_alone_will_do(site: Site, visit: Open) -> None:
    page = visit(site).page
    expect(page.get_by_label("Index")).to_be_visible()
    with page.expect_file_chooser() as chooser:  # first of all: the browser learns of it beside the keys
        page.keyboard.press("Tab")
        expect(page.get_by_label("Index")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_label("Choose a picture")).to_be_focused()
        page.keyboard.press("Space")
    chooser.value.set_files([upload(picture(8))])
    expect(page.get_by_role("heading", name="Like your picture")).to_be_focused()
    for stop in (hits(page).first.get_by_role("link"), hits(page).first.get_by_label("Details of Thing 8")):
        page.keyboard.press("Tab")
        expect(stop).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Like Thing 8")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1200])
def test_it_is_accessible_and_fits_at_every_width_in_both_schemes(
    site: Site, visit: Open, scheme: str, width: int
) -> None:
    page = visit(site, color_scheme=scheme, viewport={"width": width, "height": 800}).page
    expect(page.get_by_role("status")).to_contain_text("can be searched")
    expect_no_violations(page)
    choose(page, picture(7))
    expect_first(page, "Thing 7")
    hits(page).first.get_by_label("Details of Thing 7").click()
    expect_no_violations(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def locked(serve: Serve) -> Iterator[Site]:
    """An index whose calls and thumbnails all need a key."""
    access = {"mode": "keys", "thumbnails": "key"}
    with serve(spec_document("vault", access=access)) as running:
        yield running


async def new_key(site: Site, *scopes: str) -> str:
    catalog = await Catalog.open(site.dsn, max_connections=1)
    try:
        key, _ = await catalog.create_key(scopes, name="browser test")
    finally:
        await catalog.close()
    return key


@pytest.fixture
def key(locked: Site) -> str:
    """A key that reads and writes, and a picture written with it."""
    with ThreadPoolExecutor(1) as thread:  # this one's event loop is the browser's
        key = thread.submit(asyncio.run, new_key(locked, "search", "write")).result()
    locked.http.headers["Authorization"] = f"Bearer {key}"
    token = locked.put(picture(3), index="vault", **fields(3))
    locked.catch_up(token, picture(3), index="vault")
    return key


def test_a_key_is_asked_for_when_needed_and_travels_only_in_a_header(
    locked: Site, key: str, visit: Open
) -> None:
    visited = visit(locked)
    page = visited.page
    field = page.get_by_label("API key", exact=True)
    expect(field).to_be_focused()
    expect_no_violations(page)
    field.fill("vi_wrong")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("unknown, expired or revoked")

    field.fill(key)
    field.press("Enter")
    expect(field).to_be_hidden()
    choose(page, picture(3))
    expect_first(page, "Thing 3")
    expect(hits(page).first.locator("img")).to_have_attribute("src", re.compile("^blob:"))
    assert hits(page).first.locator("img").evaluate("i => i.decode().then(() => i.naturalWidth)") == 320
    assert page.evaluate("Object.values(sessionStorage)") == [key]
    assert page.evaluate("localStorage.length + document.cookie.length") == 0
    assert [url for url in visited.requests if "vi_" in url] == []

    page.get_by_role("button", name="Forget API key").click()
    expect(field).to_be_visible()
    expect(hits(page)).to_have_count(0)
    assert page.evaluate("sessionStorage.length") == 0
    assert all("status of 401" in complaint for complaint in visited.complaints)


def test_every_file_carries_the_policy_and_is_revalidated(site: Site) -> None:
    for path in ("/", "/static/index.html", "/static/app.js", "/static/style.css"):
        answer = site.http.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = site.http.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert again.headers["content-security-policy"] == policy
        assert again.status_code == (200 if path == "/" else 304)
    assert site.http.head("/").status_code == 200


def test_every_remedy_is_of_a_problem_that_exists() -> None:
    """`unreachable` is the page's own: there was no answer to read."""
    source = (WEB / "problems.js").read_text()
    table = source[source.index("REMEDIES") : source.index("};")]
    named = set(re.findall(r'^  "([a-z-]+)":', table, re.M)) - {"unreachable"}
    assert named
    assert named <= {kind.value.slug for kind in ProblemType}
