"""What is wrong with the domains of a spec beyond the types of their fields."""

from collections.abc import Iterator

from visualindex.errors import ProblemError
from visualindex.spec.models import DomainSpec, Spec
from visualindex.spec.problems import Location


def domain_mistakes(spec: Spec) -> list[tuple[Location, str]]:
    """The place of each mistake and what to do about it."""
    return [
        (("spec", "domains", at, *path), message)
        for at, domain in enumerate(spec.domains)
        for path, message in _mistakes(spec, domain)
    ]


def _mistakes(spec: Spec, domain: DomainSpec) -> Iterator[tuple[Location, str]]:
    # Reading filters takes numpy, which what only looks at specs does without.
    from visualindex.filters import read_filter, schema_of

    if domain.filter is not None:
        try:
            read_filter(domain.filter, schema=schema_of(spec.attributes))
        except ProblemError as problem:
            yield ("filter",), problem.detail
    declared = {attribute.name: attribute.type for attribute in spec.attributes}
    for at, name in enumerate(domain.attributes):
        if declared.get(name) == "colour":
            yield ("attributes", at), f"{name} is a colour, which has no facets: leave it out"
        elif name not in declared and name not in ("category", "key") and not name.startswith("metadata."):
            known = ", ".join([*declared, "category, key or metadata.PATH"])
            yield ("attributes", at), f"{name!r} is neither a declared attribute nor a field: use {known}"
    if domain.limit is not None and domain.limit > spec.limits.search_limit:
        most = spec.limits.search_limit
        yield ("limit",), f"{domain.limit} is above limits.searchLimit, {most}: lower it, or raise that limit"
