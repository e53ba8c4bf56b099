"""The pictures below a prefix."""

from collections.abc import AsyncIterator
from functools import partial

from pydantic import ValidationError

from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.entries import Entry, ObjectRef, Refusal, Step
from visualindex.ingesting.naming import NameRule, is_picture
from visualindex.ingesting.places import Located
from visualindex.objectstore.sources import Listed


class ObjectsSource:
    """The objects below a prefix whose names are pictures', in the order of the names' bytes; the cursor is the last one."""

    total = 0

    def __init__(self, located: Located, rule: NameRule, most: int) -> None:
        self.located = located
        self._rule = rule
        self._most = most

    async def steps(self, after: str) -> AsyncIterator[Step]:
        """The entries behind an object."""
        async for listed in self.pictures(after):
            yield Step(self._entry(listed), listed.key)

    async def pictures(self, after: str = "") -> AsyncIterator[Listed]:
        """The objects behind an object, as listed."""
        async for listed in self.located.objects.list(self.located.key, after):
            if is_picture(listed.key) and not self.located.own(listed.key):
                yield listed

    def _entry(self, listed: Listed) -> Entry | Refusal:
        objects = self.located.objects
        try:
            fields = self._rule.fields_of(listed.key)
        except ValidationError as error:
            return refusal_of(listed.key, None, error)
        read = partial(objects.get, listed.key, self._most)
        ref = ObjectRef(objects.place, listed.key, listed.etag)
        return Entry(listed.key, fields, read, whole=False, object=ref)


def refusal_of(place: str, key: str | None, error: ValidationError) -> Refusal:
    """An entry whose fields are none that an image can have."""
    detail = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return Refusal(place, key, ProblemError(ProblemType.INVALID_REQUEST, detail))
