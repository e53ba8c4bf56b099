"""Writes the table of the chart's values into its README, from values.yaml and the comments in it.

Helm's values are documented where they are set, so that nobody has to look in two places; the README repeats them for
those who read the chart on a web page. A comment above a key describes it, or the keys below it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

CHART = Path(__file__).resolve().parents[1] / "charts/visualindex"
BEGIN, END = "<!-- values: written by scripts/chart_values.py -->\n", "<!-- end of values -->"


class Value(NamedTuple):
    """One key of values.yaml; `default` is None for a key that only holds others."""

    path: str
    default: str | None
    description: str


def read_values(text: str) -> Iterator[Value]:
    """The keys of values.yaml in their order; those without a comment have an empty description."""
    lines = text.splitlines()
    for path, node in _keys(yaml.compose(text), ()):
        key, content = node
        yield Value(
            ".".join(path),
            _default(content),
            _comment_above(lines, key.start_mark.line, key.start_mark.column),
        )


def _keys(
    node: yaml.Node | None, above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], tuple[yaml.Node, yaml.Node]]]:
    """Every key with its path; what stands under `resources` is one value, in Kubernetes' own words."""
    if not isinstance(node, yaml.MappingNode) or (above and above[-1] == "resources"):
        return
    for key, content in node.value:
        path = (*above, key.value)
        yield path, (key, content)
        yield from _keys(content, path)


def _default(node: yaml.Node) -> str | None:
    """The default in YAML's short form."""
    value = yaml.safe_load(yaml.serialize(node))
    if isinstance(node, yaml.MappingNode) and node.value:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
        return text if set(value) <= {"requests", "limits"} else None
    return '""' if value == "" else str(yaml.safe_dump(value, default_flow_style=True).splitlines()[0])


def _comment_above(lines: list[str], line: int, column: int) -> str:
    """The comment that ends right above a line, at the same indentation, as one paragraph."""
    start = line
    beginning = " " * column + "# "
    while start and lines[start - 1].startswith(beginning):
        start -= 1
    return " ".join(text[len(beginning) :].strip() for text in lines[start:line])


def table(values: Iterator[Value]) -> str:
    """The values as a table in Markdown."""
    rows = ["| value | default | what it does |", "|---|---|---|"]
    for value in values:
        if value.default is None and not value.description:
            continue
        default = "" if value.default is None else f"`{value.default}`"
        rows.append(f"| `{value.path}` | {default} | {value.description} |".replace("|  |", "| |"))
    return "\n".join(rows) + "\n"


def with_table(readme: str, values: str) -> str:
    """The README with the present table in it."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + table(read_values(values)) + "\n" + END + after


if __name__ == "__main__":
    page = CHART / "README.md"
    page.write_text(with_table(page.read_text(), (CHART / "values.yaml").read_text()))
    sys.stdout.write(f"{page}\n")
