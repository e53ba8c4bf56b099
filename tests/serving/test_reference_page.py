"""The reference at `/docs` comes from this service alone."""

import re
from urllib.parse import urljoin

import pytest

from .conftest import Served, problem

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_reference_names_no_other_origin(shared: Served) -> None:
    page = await shared.client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    named = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert "static/reference.js" in named
    assert [path for path in named if re.match(r"//|[a-z]+:", path)] == []
    assert re.findall(r"<script[^>]*>[^<]", page.text) == []
    for path in named:
        found = await shared.client.get(urljoin("/docs", path))
        assert found.status_code == 200, path
        if path.endswith((".js", ".css")):
            assert "//" not in _uncommented(found.text), path
    head = await shared.client.head("/docs")
    assert (head.status_code, head.content) == (200, b"")
    problem(await shared.client.get("/redoc"), 404, "not-found")


def _uncommented(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
