"""What naming domains does to a search: the union of their images, each with its own least score, and defaults."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visualindex.api.search import SearchRequest
from visualindex.filters import EVERYTHING, Filter, Or, matches, read_filter, schema_of
from visualindex.spec import Spec
from visualindex.spec.models import DomainSpec
from visualindex_serving.problems import invalid


@dataclass(frozen=True)
class Scope:
    """The domains of one search. Without any it changes nothing."""

    names: tuple[str, ...] = ()
    filter: Filter | None = None
    """Passes the images of any of the domains; None: all images."""
    thresholds: tuple[tuple[Filter, float], ...] = ()
    """Each domain's filter and least score, where they differ among the domains."""
    min_score: float | None = None
    """The lowest of the domains' least scores; None: some domain takes any score."""

    def keeps(self, attributes: Mapping[str, Any], score: float) -> bool:
        """Whether a hit with these attributes reaches the least score of a domain it is in."""
        return not self.thresholds or any(
            score >= least and matches(images, attributes) for images, least in self.thresholds
        )

    @property
    def sure_above(self) -> float:
        """The score from which a hit is kept whatever domain it is in."""
        return max((least for _, least in self.thresholds), default=-math.inf)


NO_SCOPE = Scope()


def scope_of(names: Sequence[str], spec: Spec, *, own_scores: bool = True) -> Scope:
    """The scope of the domains of these names; without `own_scores` their least scores are passed over.

    Raises ProblemError INVALID_REQUEST for an unknown name.
    """
    domains = [_domain(name, spec) for name in dict.fromkeys(names)]
    if not domains:
        return NO_SCOPE
    filters = [_filter(domain, spec) for domain in domains]
    union = None if EVERYTHING in filters else filters[0] if len(filters) == 1 else Or(tuple(filters))
    scores = [domain.min_score for domain in domains] if own_scores else [None]
    floors = [-math.inf if score is None else score for score in scores]
    differ = len(set(floors)) > 1
    return Scope(
        names=tuple(domain.name for domain in domains),
        filter=union,
        thresholds=tuple(zip(filters, floors, strict=True)) if differ else (),
        min_score=None if None in scores else min(floors),
    )


def with_defaults(request: SearchRequest, spec: Spec) -> SearchRequest:
    """The request with what its domains say where it says nothing: the largest of their limits, all their facets."""
    domains = [_domain(name, spec) for name in request.domains]
    given = request.model_fields_set
    update: dict[str, Any] = {}
    limits = [domain.limit for domain in domains if domain.limit is not None]
    if limits and "limit" not in given:
        update["limit"] = max(limits)
    if "facets" not in given:
        update["facets"] = list(dict.fromkeys(name for one in domains for name in one.attributes))[:16]
    if not domains or not update:
        return request
    return request.model_copy(update=update)


def _filter(domain: DomainSpec, spec: Spec) -> Filter:
    return (
        EVERYTHING if domain.filter is None else read_filter(domain.filter, schema=schema_of(spec.attributes))
    )


def _domain(name: str, spec: Spec) -> DomainSpec:
    by_name = {domain.name: domain for domain in spec.domains}
    if name in by_name:
        return by_name[name]
    if not by_name:
        raise invalid("/domain", f"this index has no domains, so {name[:40]!r} is none: leave it out")
    near = difflib.get_close_matches(name, by_name, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(by_name)}"
    raise invalid("/domain", f"{name[:40]!r} is no domain of this index: {hint}")
