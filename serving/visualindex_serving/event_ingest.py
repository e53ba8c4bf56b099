"""What a bucket tells of: the object is looked at as it is now, whatever the event says, so that events may come twice, late
or in any order. What was done is held against the object once more, for it may have changed meanwhile."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from visualindex.api.images import ImageFields
from visualindex.api.ingesting import EventTaken
from visualindex.catalog import ImageRecord, Origin
from visualindex.errors import ProblemError, ProblemType
from visualindex.identity import image_id_for_key
from visualindex.ingesting.events import ObjectEvent, is_later
from visualindex.ingesting.fields import beside, says_the_same
from visualindex.ingesting.naming import NameRule, is_picture
from visualindex.ingesting.places import Located, find_bucket
from visualindex.ingesting.preparing import is_passing
from visualindex.objectstore.sources import Content
from visualindex.spec.models import IngestEventsSpec
from visualindex_serving.deadlines import within
from visualindex_serving.hashing import sha256
from visualindex_serving.index_service import IndexService
from visualindex_serving.ingest import Incoming, write_image

_AT_ONCE = 4
_LOOKS = 5


async def take_events(
    service: IndexService, events: Sequence[ObjectEvent], deadline: float
) -> list[EventTaken]:
    """What each came to. Raises ProblemError FORBIDDEN when the spec wants none, and UNAVAILABLE or the like when the
    notification should be sent again."""
    wanted = service.resource.spec.ingest.events
    if wanted is None:
        detail = f"index {service.name} takes no events of buckets: set spec.ingest.events"
        raise ProblemError(ProblemType.FORBIDDEN, detail)
    bucket = find_bucket(service.resource.spec, wanted.bucket)
    located = service.places.locate(f"s3://{bucket.name}/")
    taking = _Taking(service, wanted, located)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(event: ObjectEvent) -> EventTaken | ProblemError:
        async with gate:
            try:
                return await within(deadline, f"taking in {event.key}", taking.take(event, deadline))
            except ProblemError as problem:
                if is_passing(problem):
                    return problem
                return EventTaken(key=event.key, outcome="refused", reason=problem.detail)

    taken = await asyncio.gather(*(one(event) for event in events))
    for outcome in taken:
        if isinstance(outcome, ProblemError):
            raise outcome
    return [outcome for outcome in taken if isinstance(outcome, EventTaken)]


@dataclass(frozen=True)
class _Taking:
    service: IndexService
    wanted: IngestEventsSpec
    located: Located

    async def take(self, event: ObjectEvent, deadline: float) -> EventTaken:
        """Make the index agree with the object."""
        strange = self._strange(event)
        if strange is not None:
            return EventTaken(key=event.key, outcome="ignored", reason=strange)
        origin = await self._origin(event.key)
        if origin is not None and not is_later(event.sequencer, origin.sequencer):
            return EventTaken(key=event.key, outcome="stale")
        for _ in range(_LOOKS):
            seen = await self.located.objects.etag(event.key)
            taken = await self._agree(event, seen, deadline)
            if taken is not None and await self.located.objects.etag(event.key) == seen:
                return taken
        detail = f"object {event.key} keeps changing: send the event again"
        raise ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=1.0)

    def _strange(self, event: ObjectEvent) -> str | None:
        """Why an event is not about a picture of the index, if it is not."""
        bucket = self.located.bucket
        if bucket is None or event.bucket != bucket.bucket:
            return f"bucket {event.bucket} is not that of spec.ingest.events"
        if not event.key.startswith(self.wanted.prefix):
            return f"it does not start with {self.wanted.prefix} (spec.ingest.events.prefix)"
        if self.located.own(event.key):
            return "it is an object that the service itself stores"
        return None if is_picture(event.key) else "its name is not that of a picture"

    async def _origin(self, key: str) -> Origin | None:
        place = self.located.objects.place
        return (await self.service.catalog.get_origins(self.service.name, place, [key])).get(key)

    async def _agree(self, event: ObjectEvent, seen: str | None, deadline: float) -> EventTaken | None:
        """Take the object in or its image out; None when it is gone or changed before it could be read."""
        if seen is None:
            return await self._remove(event)
        fields = self._fields(event.key)
        image_id = image_id_for_key(self.service.name, str(fields.key))
        records = await self.service.catalog.get_images(self.service.name, [image_id])
        record = records.get(image_id)
        origin = await self._origin(event.key)
        same = record if record is not None and says_the_same(record, beside(record, fields)) else None
        if same is not None and _is_of(origin, seen, same):
            return await self._unchanged(event, same, seen)
        content = await self._read(event.key)
        if content is None or content.etag != seen:
            return None
        digest = await sha256(content.data)
        if same is not None and same.content_digest == digest and await self._encoded(same):
            return await self._unchanged(event, same, seen)
        note = Origin(self.located.objects.place, event.key, image_id, digest, seen, event.sequencer)
        incoming = Incoming(fields, content.data, beside=True)
        written = await write_image(self.service, incoming, deadline, origins=[note])
        return EventTaken(key=event.key, outcome="stored", image_id=str(written.image_id))

    def _fields(self, key: str) -> ImageFields:
        rule = NameRule(self.wanted.prefix, self.wanted.key, self.wanted.category)
        try:
            return rule.fields_of(key)
        except ValidationError as error:
            detail = f"object {key} gives no key that an image can have: {error.errors()[0]['msg']}"
            raise ProblemError(ProblemType.INVALID_REQUEST, detail) from error

    async def _read(self, key: str) -> Content | None:
        try:
            return await self.located.objects.get(key, self.service.resource.spec.limits.image_bytes)
        except ProblemError as problem:
            if problem.type is ProblemType.NOT_FOUND:
                return None
            raise

    async def _encoded(self, record: ImageRecord) -> bool:
        """Whether it has a vector of every encoder that the index is served with."""
        catalog, name = self.service.catalog, self.service.name
        for encoder in self.service.encoders.held:
            if not await catalog.get_vectors(name, [record.image_id], encoder.fingerprint):
                return False
        return True

    async def _unchanged(self, event: ObjectEvent, record: ImageRecord, etag: str) -> EventTaken:
        place, digest = self.located.objects.place, record.content_digest
        note = Origin(place, event.key, record.image_id, digest, etag, event.sequencer)
        await self.service.catalog.note_origins(self.service.name, [note])
        return EventTaken(key=event.key, outcome="unchanged", image_id=str(record.image_id))

    async def _remove(self, event: ObjectEvent) -> EventTaken:
        place = self.located.objects.place
        token = await self.service.catalog.remove_origin(self.service.name, place, event.key)
        self.service.tell_news()
        return EventTaken(key=event.key, outcome="absent" if token is None else "removed")


def _is_of(origin: Origin | None, etag: str, record: ImageRecord) -> bool:
    """Whether the image is what was made of the object, and the object is what it was then."""
    return origin is not None and (origin.etag, origin.content_digest) == (etag, record.content_digest)
