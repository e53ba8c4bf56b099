"""Photograph the page over the furniture collection, for the README.

`python -m tests.browser.photograph COLLECTION PAGE.png`: COLLECTION is a folder that `visualindex collections fetch
furniture` filled. The picture to search with is mirrored and recompressed, so that it is not an indexed file.
"""

import io
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps
from playwright.sync_api import FilePayload, expect, sync_playwright
from tests.browser.gateway import ARGUMENTS, CHROMIUM, Site, serve_site
from tests.postgres import running_postgres
from tests.serving.conftest import spec_document

from visualindex.collections.manifest import Collection, Item, read_manifest

_INDEX = "furniture"
_QUERY = "Blend Swap CC-0#armchair"


@contextmanager
def furnished(collection: Collection) -> Iterator[Site]:
    """A gateway over every picture of the collection."""
    with tempfile.TemporaryDirectory(prefix="vi-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name in ("postgres", "state", "cache"):
            (root / name).mkdir(mode=0o755)
        with (
            running_postgres(root / "postgres") as server,
            serve_site(server, root / "state", root / "cache", [spec_document(_INDEX)]) as site,
        ):
            _ingest(site, collection)
            yield site


def _ingest(site: Site, collection: Collection) -> None:
    token = ""
    for item in collection.items:
        fields = {"key": item.key, "category": item.category, "metadata": json.dumps(item.metadata)}
        token = site.put((collection.root / item.path).read_bytes(), index=_INDEX, **fields)
    site.catch_up(token, _query(collection), index=_INDEX)


def _query(collection: Collection) -> bytes:
    item = _named(collection, _QUERY)
    with Image.open(collection.root / item.path) as image:
        white = Image.new("RGBA", image.size, "white")
        upright = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    out = io.BytesIO()
    ImageOps.mirror(upright).save(out, "JPEG", quality=85)
    return out.getvalue()


def _named(collection: Collection, key: str) -> Item:
    return next(item for item in collection.items if item.key == key)


def photograph(site: Site, query: bytes, target: Path) -> None:
    """Search with the picture and photograph the window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 860})
        page.goto(site.address)
        upload: FilePayload = {"name": "chair.jpg", "mimeType": "image/jpeg", "buffer": query}
        page.get_by_label("Choose a picture").set_input_files(upload)
        expect(page.get_by_role("listitem")).to_have_count(24)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=target)
        browser.close()


def main() -> None:
    """Photograph the page as the arguments say."""
    collection = read_manifest(Path(sys.argv[1]))
    with furnished(collection) as site:
        photograph(site, _query(collection), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
