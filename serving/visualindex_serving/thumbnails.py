"""Addresses of thumbnails: named by content, so they never change and caches may keep them for ever."""


def thumbnail_paths(index: str, digest_hex: str, sizes: tuple[int, ...], base: str) -> dict[str, str]:
    """Size in pixels → path of the thumbnail."""
    return {str(size): f"{base}/api/thumbnails/{index}/{size}/{digest_hex}.webp" for size in sizes}
