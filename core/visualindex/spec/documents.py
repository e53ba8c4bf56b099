"""YAML read as data only: no tags that run code, no key given twice, no aliases that explode."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from visualindex.spec.problems import Location, SpecProblem, dotted

MAX_BYTES = 1024 * 1024
"""Largest spec file in bytes."""
MAX_NODES = 20_000
"""Most values of one document after its aliases are expanded."""
MAX_DEPTH = 32
"""Deepest nesting of one document."""

_MERGE = "tag:yaml.org,2002:merge"
_STRING = "tag:yaml.org,2002:str"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


@dataclass
class Document:
    """One YAML document: its value as plain data, and what was wrong with how it is written."""

    number: int
    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    """1-based line of every path."""
    problems: list[SpecProblem] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """The safe loader without dates: Kubernetes reads `2026-01-01` as text, and so do we."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_documents(text: str, source: str) -> Iterator[Document]:
    """The documents of a YAML text, empty ones skipped; what cannot be parsed is a document with problems."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        yield _broken(source, 0, None, f"the file is larger than {MAX_BYTES} bytes: this is no spec")
        return
    number = 0
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            number += 1
            document = _read(loader, node, number, source)
            if document.value is not None or document.problems:
                yield document
    except yaml.MarkedYAMLError as error:
        yield _broken(source, number + 1, _line(error.problem_mark), f"not valid YAML: {_reason(error)}")
    except yaml.YAMLError as error:
        yield _broken(source, number + 1, None, f"not valid YAML: {' '.join(str(error).split())}")
    except RecursionError:
        yield _broken(source, number + 1, None, f"nested deeper than {MAX_DEPTH} levels")


def _read(loader: _Loader, node: yaml.Node | None, number: int, source: str) -> Document:
    document = Document(number)
    if node is None:
        return document
    survey = _Survey(document, source)
    survey.visit(node, (), 0)
    if survey.constructible:
        try:
            document.value = loader.construct_document(node)
        except yaml.MarkedYAMLError as error:
            survey.report(error.problem_mark, (), f"not valid YAML: {_reason(error)}")
        except ValueError as error:
            survey.report(node.start_mark, (), f"holds a value that cannot be read: {error}")
    return document


class _Survey:
    """One walk over the nodes before anything is built from them: lines, duplicate keys, size."""

    def __init__(self, document: Document, source: str) -> None:
        self.document = document
        self.source = source
        self.constructible = True
        self._nodes = 0

    def report(self, mark: Any, path: Location, message: str) -> None:
        self.document.problems.append(
            SpecProblem(self.source, self.document.number, _line(mark), dotted(path), message)
        )

    def visit(self, node: yaml.Node, path: Location, depth: int) -> None:
        self._nodes += 1
        if not self.constructible:
            return
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            self._refuse(node, path, depth)
        elif isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, path, depth)
        elif isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self._visit_item(item, (*path, position), item, depth)

    def _refuse(self, node: yaml.Node, path: Location, depth: int) -> None:
        self.constructible = False
        if depth > MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels (an alias that holds itself nests for ever)"
        else:
            message = f"more than {MAX_NODES} values once the aliases are expanded"
        self.report(node.start_mark, path[:3], message)

    def _visit_mapping(self, node: yaml.MappingNode, path: Location, depth: int) -> None:
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                self.visit(value_node, path, depth + 1)
            elif not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _STRING:
                self._refuse_key(key_node, path)
            else:
                self._note_duplicate(first_lines, key_node, path)
                self._visit_item(value_node, (*path, key_node.value), key_node, depth)

    def _visit_item(self, node: yaml.Node, path: Location, anchor: yaml.Node, depth: int) -> None:
        self.document.lines.setdefault(path, anchor.start_mark.line + 1)
        self.visit(node, path, depth + 1)

    def _refuse_key(self, key: yaml.Node, path: Location) -> None:
        self.constructible = False
        kind = key.tag.rsplit(":", 1)[-1]
        name = f"`{key.value}`" if isinstance(key, yaml.ScalarNode) else "a list or mapping"
        self.report(
            key.start_mark, path, f"the key {name} is read as {kind}, keys must be text: put it in quotes"
        )

    def _note_duplicate(self, first_lines: dict[str, int], key: yaml.ScalarNode, path: Location) -> None:
        line = key.start_mark.line + 1
        if key.value in first_lines:
            message = f"the key is given twice, first in line {first_lines[key.value]}: keep one"
            self.report(key.start_mark, (*path, key.value), message)
        first_lines.setdefault(key.value, line)


def _broken(source: str, number: int, line: int | None, message: str) -> Document:
    return Document(number, problems=[SpecProblem(source, number, line, "", message)])


def _line(mark: Any) -> int | None:
    return None if mark is None else int(mark.line) + 1


def _reason(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context, error.problem) if part)
