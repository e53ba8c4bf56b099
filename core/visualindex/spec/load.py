"""Specs from files: every mistake of every file in one report, each with its place and its remedy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visualindex.spec.documents import Document, read_documents
from visualindex.spec.mistakes import read as mistakes_of
from visualindex.spec.models import API_VERSION, KIND, VisualIndex
from visualindex.spec.problems import Location, SpecError, SpecProblem, dotted


def load_specs(paths: list[Path]) -> list[VisualIndex]:
    """The specs of the files, in order, as one service would run them.

    Raises SpecError with every problem of every file: unreadable files, YAML mistakes, unknown keys, wrong
    values, a name used twice, and specs that name different databases.
    """
    problems: list[SpecProblem] = []
    found: list[tuple[VisualIndex, str, Document]] = []
    for path in paths:
        for document in _documents(path):
            problems += document.problems
            if document.value is not None:
                try:
                    spec = parse_spec(document.value, str(path), number=document.number, lines=document.lines)
                    found.append((spec, str(path), document))
                except SpecError as error:
                    problems += error.problems
    problems += _conflicts(found)
    if not found and not problems:
        named = ", ".join(str(path) for path in paths) or "no file"
        problems.append(
            SpecProblem(named, 0, None, "", f"no {KIND} document found: give a file that holds one")
        )
    if problems:
        raise SpecError(problems)
    return [spec for spec, _, _ in found]


def parse_spec(
    document: Any, source: str, *, number: int = 1, lines: Mapping[Location, int] | None = None
) -> VisualIndex:
    """The spec that a mapping of plain JSON values states; SpecError names every mistake in it."""
    foreign = _foreign(document)
    if foreign:
        raise SpecError(
            [SpecProblem(source, number, _line_of(lines, path), dotted(path), text) for path, text in foreign]
        )
    spec, mistakes = mistakes_of(document)
    if mistakes or spec is None:
        raise SpecError(
            [
                SpecProblem(source, number, _line_of(lines, path), dotted(path), text)
                for path, text in mistakes
            ]
        )
    return spec


def from_live(resource: Mapping[str, Any]) -> VisualIndex:
    """The spec of an object as the API server holds it: its name and `spec` alone, whatever else it carries.

    Raises SpecError for a spec that this release does not understand, such as one stored under a newer definition.
    """
    metadata = resource.get("metadata", {})
    own = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": metadata.get("name")}}
    document = own | {"spec": resource.get("spec", {})}
    return parse_spec(document, f"{metadata.get('namespace', '')}/{metadata.get('name')}")


def _foreign(document: Any) -> list[tuple[Location, str]]:
    """Documents of another kind get one line instead of a list of unknown keys."""
    if not isinstance(document, dict):
        return [((), f"the document is not a mapping: it starts with `apiVersion: {API_VERSION}`")]
    kind, version = document.get("kind", KIND), document.get("apiVersion", API_VERSION)
    if kind != KIND:
        return [(("kind",), f"'{kind}' is not {KIND}: keep other resources in files of their own")]
    if version != API_VERSION:
        return [(("apiVersion",), f"'{version}' is not supported: write {API_VERSION}")]
    return []


def _documents(path: Path) -> list[Document]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        reason = f"the file is not UTF-8 text (byte {error.start}): is it a YAML file?"
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
    else:
        return list(read_documents(text, str(path)))
    return [Document(0, problems=[SpecProblem(str(path), 0, None, "", reason)])]


def _line_of(lines: Mapping[Location, int] | None, location: Location) -> int | None:
    """The line of a location, or of its nearest parent that is written in the file."""
    for end in range(len(location), 0, -1):
        if lines and location[:end] in lines:
            return lines[location[:end]]
    return None


def _conflicts(found: list[tuple[VisualIndex, str, Document]]) -> list[SpecProblem]:
    problems: list[SpecProblem] = []
    seen: dict[str, str] = {}
    for spec, source, document in found:
        place = f"{source} (document {document.number})"

        def problem(
            path: Location, message: str, source: str = source, document: Document = document
        ) -> None:
            line = _line_of(document.lines, path)
            problems.append(SpecProblem(source, document.number, line, dotted(path), message))

        if spec.name in seen:
            problem(
                ("metadata", "name"),
                f"the name '{spec.name}' is already used in {seen[spec.name]}: rename one",
            )
        seen.setdefault(spec.name, place)
        if spec.spec.postgres != found[0][0].spec.postgres:
            problem(
                ("spec", "postgres"),
                f"differs from that of index '{found[0][0].name}': the indexes of one service share one "
                "database, state the same `postgres` section in all",
            )
    return problems
