"""A user's bucket, to be read."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from minio.error import S3Error

from visualindex.objectstore.s3_requests import S3Requests
from visualindex.objectstore.sources import LIST_PAGE, Content, Listed, check_size, gone
from visualindex.spec.models import S3Spec


class BucketObjects:
    """The objects of a bucket; `spec.prefix` is not regarded: keys are those that the bucket's own tools show."""

    def __init__(self, spec: S3Spec, access_key: str, secret_key: str) -> None:
        """Connects to nothing yet."""
        self._bucket = spec.bucket
        self._requests = S3Requests(spec, access_key, secret_key)
        self.place = f"s3://{spec.endpoint}/{spec.bucket}"

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[Listed]:
        """The objects, a page of the bucket at a time."""
        while page := await self._requests.run(partial(self._page, prefix, after)):
            for listed in page:
                yield listed
            after = page[-1].key

    async def get(self, key: str, most: int) -> Content:
        """An object, with the etag of what was read."""
        try:
            return await self._requests.run(partial(self._get, key, most))
        except S3Error as error:
            raise gone(key) from error

    async def etag(self, key: str) -> str | None:
        """The etag that the bucket shows."""
        try:
            return await self._requests.run(partial(self._etag, key))
        except S3Error:
            return None

    async def save(self, key: str, path: Path) -> None:
        """Fetch it to a new file."""
        fetching = partial(self._requests.client.fget_object, self._bucket, key, str(path))
        try:
            await self._requests.run(fetching)
        except S3Error as error:
            raise gone(key) from error

    async def close(self) -> None:
        """Release threads and connections."""
        await self._requests.close()

    def _page(self, prefix: str, after: str) -> Sequence[Listed]:
        found = self._requests.client.list_objects(
            self._bucket, prefix=prefix, recursive=True, start_after=after or None
        )
        return [
            Listed(item.object_name, item.size or 0, item.etag or "")
            for item in islice(found, LIST_PAGE)
            if item.object_name
        ]

    def _get(self, key: str, most: int) -> Content:
        response = self._requests.client.get_object(self._bucket, key)
        try:
            check_size(key, int(response.headers.get("content-length", 0)), most)
            return Content(response.read(), response.headers.get("etag", "").strip('"'))
        finally:
            response.close()
            response.release_conn()

    def _etag(self, key: str) -> str:
        return self._requests.client.stat_object(self._bucket, key).etag or ""
