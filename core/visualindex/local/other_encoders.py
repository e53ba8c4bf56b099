"""The encoders that the indexes of a local service are served with besides those of their specs."""

from visualindex.catalog import Catalog
from visualindex.footprint import encoder_bytes
from visualindex.spec import VisualIndex
from visualindex.spec.quantities import format_bytes
from visualindex.spec.served_encoder import same_space, shown, with_settings


async def other_encoders(resources: list[VisualIndex], dsn: str) -> list[VisualIndex]:
    """Each resource once more for every other encoder that the database says it is served with."""
    catalog = await Catalog.open(dsn, max_connections=1, application_name="visualindex-up")
    try:
        return [other for resource in resources for other in await _others(catalog, resource)]
    finally:
        await catalog.close()


async def _others(catalog: Catalog, resource: VisualIndex) -> list[VisualIndex]:
    found = [
        with_settings(resource, one.settings)
        for one in await catalog.index_encoders(resource.name)
        if one.state != "leaving"
    ]
    return [one for one in found if not same_space(one.spec.encoder, resource.spec.encoder)]


def told(others: list[VisualIndex]) -> list[str]:
    """A line for each of them: what it takes, and how long."""
    return [
        f"index {one.name}: {shown(one.spec.encoder)} is served as well, {format_bytes(encoder_bytes(one.spec.encoder))} "
        f"more, until its last generation is retired (visualindex index show {one.name})"
        for one in others
    ]
