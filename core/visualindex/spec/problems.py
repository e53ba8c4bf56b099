"""What is wrong with a spec, said so that the writer of the file can mend it without reading our source."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from visualindex.errors import ProblemError, ProblemType
from visualindex.spec.fields import fields_by_key, model_at, walk_fields

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class SpecProblem:
    """One thing to mend: where it is and what to do about it."""

    source: str
    """File name, or what else the document came from."""
    document: int
    """1-based number of the YAML document in its file; 0 when the whole file is meant."""
    line: int | None
    path: str
    """Dotted path such as `spec.encoder.dimension`; empty for the document itself."""
    message: str

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        number = f" (document {self.document})" if self.document > 1 else ""
        path = f" {self.path}:" if self.path else ""
        return f"{where}{number}:{path} {self.message}"

    def as_dict(self) -> dict[str, Any]:
        """The members as JSON values, for `visualindex validate --json`."""
        return asdict(self)


class SpecError(ProblemError):
    """One or more specs are wrong; `problems` lists every finding, the detail is the readable report."""

    def __init__(self, problems: Iterable[SpecProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(ProblemType.INVALID_REQUEST, "\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return SpecError, (self.problems,)


def dotted(location: Location) -> str:
    """`('spec', 'fetch', 'ports', 0)` as `spec.fetch.ports[0]`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe(root: type[BaseModel], error: ErrorDetails) -> str:
    """A sentence for one validation error: what is wrong and what to write instead."""
    kind, context, shown = error["type"], error.get("ctx", {}), _shown(error["input"])
    match kind:
        case "extra_forbidden":
            return _unknown_key(root, error["loc"])
        case "missing":
            return _missing(root, error["loc"])
        case "literal_error":
            return f"{shown} is not one of {context['expected']}" + _near_literal(error)
        case "greater_than_equal":
            return f"{shown} is below the minimum {context['ge']:g}"
        case "less_than_equal":
            return f"{shown} is above the maximum {context['le']:g}"
        case "int_type":
            return f"{shown} is not a whole number{_quoted_number(error['input'])}"
        case "float_type":
            return f"{shown} is not a number{_quoted_number(error['input'])}"
        case "bool_type":
            return f"{shown} is not true or false"
        case "string_type":
            return f"{shown} is not text: put it in quotes if it is meant as text"
        case "tuple_type":
            return f"{shown} is not a list: write [a, b] or one `- item` a line"
        case "too_long":
            return f"has {context['actual_length']} items, at most {context['max_length']} are allowed"
        case "model_type" | "dict_type":
            return _not_a_section(error["input"], shown)
        case "string_pattern_mismatch" | "string_too_long" if error["loc"] == ("metadata", "name"):
            return (
                f"{shown} is not a valid name: use at most 40 lower-case letters, digits and dashes, "
                "starting with a letter and not ending with a dash"
            )
        case "value_error":
            return str(context["error"])
        case _:
            return f"{shown}: {error['msg']}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _quoted_number(value: Any) -> str:
    bare = isinstance(value, str) and value.strip().replace(".", "", 1).isdigit()
    return ": remove the quotes" if bare else ""


def _not_a_section(value: Any, shown: str) -> str:
    if value is None:
        return "the section is empty: remove it to take the defaults, or put keys under it"
    return f"{shown} is not a section: put `key: value` lines under it"


def _near_literal(error: ErrorDetails) -> str:
    allowed = [part for part in error["ctx"]["expected"].split("'") if part.strip(", ") not in ("", "or")]
    near = difflib.get_close_matches(str(error["input"]).lower(), allowed, n=1)
    return f": did you mean '{near[0]}'?" if near else ""


def _missing(root: type[BaseModel], location: Location) -> str:
    if isinstance(location[-1], int):
        return f"the list is too short: item {location[-1] + 1} is missing"
    model = model_at(root, location[:-1])
    field = fields_by_key(model).get(location[-1]) if model else None
    about = f": {field.description}" if field and field.description else ""
    return f"the key `{location[-1]}` is required{about}"


def _unknown_key(root: type[BaseModel], location: Location) -> str:
    key, model = str(location[-1]), model_at(root, location[:-1])
    known = list(fields_by_key(model)) if model else []
    camel = to_camel(key)
    if camel in known:
        return f"unknown key `{key}`: keys are camelCase, write `{camel}`"
    near = difflib.get_close_matches(camel, known, n=1, cutoff=0.7)
    if near:
        return f"unknown key `{key}`: did you mean `{near[0]}`?"
    elsewhere = _paths_of_key(root).get(camel)
    if elsewhere:
        return f"unknown key `{key}` here: did you mean `{elsewhere[0]}`?"
    near = difflib.get_close_matches(camel, known, n=1)
    if near:
        return f"unknown key `{key}`: did you mean `{near[0]}`?"
    return f"unknown key `{key}`: the keys here are {', '.join(known)}"


def _paths_of_key(root: type[BaseModel]) -> Mapping[str, list[str]]:
    paths: dict[str, list[str]] = {}
    for field in walk_fields(root):
        paths.setdefault(field.path.rsplit(".", 1)[-1], []).append(field.path)
    return paths
