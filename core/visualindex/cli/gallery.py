"""A page of search hits that needs nothing but itself: pictures are in it as data, and no script is."""

import base64
import html
from pathlib import Path
from typing import Protocol

from visualindex.api.search import Hit, SearchResponse
from visualindex.errors import ProblemError

_STYLE = """\
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1rem }
figure { margin: 0; padding: .6rem; background: #fff; border: 1px solid #ddd; border-radius: 6px }
img { width: 100%; height: 160px; object-fit: contain }
figcaption { overflow-wrap: anywhere } small { color: #666 } .query { max-width: 200px; margin-bottom: 1.5rem }
"""
_KINDS = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


class Files(Protocol):
    """Where thumbnails come from: the client."""

    def file(self, path: str) -> bytes:
        """The bytes behind a path of a response."""


def write_gallery(target: Path, answer: SearchResponse, files: Files, *, query_image: bytes | None) -> None:
    """Write the page; a thumbnail that cannot be had leaves its place empty."""
    figures = "\n".join(_figure(hit, _thumbnail(hit, files)) for hit in answer.hits)
    title = f"{len(answer.hits)} hits from {html.escape(answer.index)}"
    query = "" if query_image is None else _picture(query_image, "the query", "query")
    target.write_text(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>\n{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{query}\n<main>\n{figures}\n</main>\n"
        "</body>\n</html>\n",
        encoding="utf-8",
    )


def _figure(hit: Hit, picture: bytes | None) -> str:
    name = html.escape(str((hit.metadata or {}).get("name") or hit.key or hit.image_id))
    link = hit.url if hit.url and hit.url.startswith(("http://", "https://")) else None
    label = f'<a href="{html.escape(link)}" rel="noreferrer">{name}</a>' if link else name
    shown = "" if picture is None else _picture(picture, name, "hit")
    category = html.escape(hit.category or "")
    return f"<figure>{shown}<figcaption>{label}<br><small>{hit.score:.3f} {category}</small></figcaption></figure>"


def _picture(data: bytes, alt: str, kind: str) -> str:
    encoded = base64.b64encode(data).decode()
    return f'<img class="{kind}" alt="{alt}" src="data:{_media_type(data)};base64,{encoded}">'


def _media_type(data: bytes) -> str:
    return next((media_type for magic, media_type in _KINDS if data.startswith(magic)), "image/webp")


def _thumbnail(hit: Hit, files: Files) -> bytes | None:
    """The smallest thumbnail of at least 200 pixels, or the largest there is."""
    sizes = sorted(int(size) for size in hit.thumbnails)
    if not sizes:
        return None
    size = next((size for size in sizes if size >= 200), sizes[-1])
    try:
        return files.file(hit.thumbnails[str(size)])
    except ProblemError:
        return None
