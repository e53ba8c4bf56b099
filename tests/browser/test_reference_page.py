"""The reference at `/docs`, as a reader with a browser meets it."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import expect
from tests.browser.conftest import Open, Serve
from tests.browser.gateway import Site
from tests.serving.conftest import spec_document

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(serve: Serve) -> Iterator[Site]:
    with serve(spec_document("things")) as running:
        yield running


def test_every_call_and_schema_is_shown_from_this_origin_alone(site: Site, visit: Open) -> None:
    visited = visit(site)
    page = visited.page
    page.goto(f"{site.address}/docs")
    document = site.http.get("/openapi.json").json()
    calls = [f"{m.upper()} {path}" for path, item in document["paths"].items() for m in item]
    expect(page.get_by_role("status")).to_contain_text(f"{len(calls)} calls")
    for name in (*calls, *document["components"]["schemas"]):
        expect(page.get_by_role("heading", level=2, name=name, exact=True)).to_be_visible()
    search = page.get_by_role("article").filter(has=page.get_by_role("heading", name="POST /api/search"))
    expect(search).to_contain_text("Example")
    expect(search).to_contain_text("not-caught-up")
    assert visited.hosts() == {site.address.removeprefix("http://")}
    assert visited.complaints == []
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found] == []
