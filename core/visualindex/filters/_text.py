"""The short text form of filters: `category = "Bed" and price < 100`.

A precedence-climbing parser turns it into the JSON form, noting which character each part comes from; the one reader of
the JSON form then judges it, so that both forms mean the same and refuse the same.
"""

from dataclasses import dataclass, field
from typing import Any, NoReturn

from visualindex.errors import ProblemError
from visualindex.filters._parse import FieldError, parse_filter, wrong_at
from visualindex.filters._schema import NO_SCHEMA, Schema
from visualindex.filters._tokens import Token, refuse_at, tokens
from visualindex.filters._tree import EVERYTHING, Filter

MAX_TEXT_FORM = 65_536
"""Most characters of a filter in the text form."""

_MAX_NESTING = 64
_NAME = "#"  # after a pointer: the name of the member, as relative JSON pointers have it
_COMPARE = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_VALUES = ("string", "number", "true", "false")


def parse_filter_text(
    text: str,
    *,
    schema: Schema = NO_SCHEMA,
    now: int | None = None,
    max_depth: int = 8,
    max_terms: int = 64,
) -> Filter:
    """Read a filter in the short text form (docs/filters.md); a blank text passes everything.

    The other arguments are those of `parse_filter`. Raises `ProblemError(INVALID_FILTER)` whose `offset` member counts
    the characters before the offending part, and whose detail shows it.
    """
    if len(text) > MAX_TEXT_FORM:
        refuse_at(text, MAX_TEXT_FORM, f"it has {len(text)} characters; at most {MAX_TEXT_FORM} are allowed")
    if not text.strip():
        return EVERYTHING
    parsed = _Parser(text, tokens(text)).whole()
    offsets: dict[str, int] = {}
    document = parsed.document("", offsets)
    try:
        return parse_filter(document, schema=schema, now=now, max_depth=max_depth, max_terms=max_terms)
    except ProblemError as error:
        pointer = error.extra["pointer"]
        named = offsets.get(f"{pointer}{_NAME}") if isinstance(error, FieldError) else None
        refuse_at(
            text,
            _offset(offsets, pointer) if named is None else named,
            error.detail.removeprefix(wrong_at(pointer)),
        )


def _offset(offsets: dict[str, int], pointer: str) -> int:
    """Where the part at a JSON pointer, or the nearest part around it, stands in the text."""
    while pointer and pointer not in offsets:
        pointer = pointer.rpartition("/")[0]
    return offsets.get(pointer, 0)


def is_text_form(text: str) -> bool:
    """Whether a filter given as text is in the short form and not in JSON, which no short form begins like."""
    return not text.lstrip().startswith(("{", "["))


def read_filter(given: Any, *, schema: Schema = NO_SCHEMA) -> Filter:
    """The filter of a request, in either form."""
    read = parse_filter_text if isinstance(given, str) else parse_filter
    return read(given, schema=schema)


@dataclass(frozen=True)
class _Part:
    """A part of the JSON form: a value, a list, or an object, with the character it comes from."""

    value: Any
    offset: int
    items: tuple["_Part", ...] = field(default=())
    names: tuple[str, ...] = field(default=())

    def document(self, pointer: str, offsets: dict[str, int]) -> Any:
        """The part as JSON, with the offsets of all parts by their pointers."""
        offsets[pointer] = self.offset
        if self.value is dict:
            pairs = list(zip(self.names, self.items, strict=True))
            offsets.update((f"{pointer}/{_escaped(name)}{_NAME}", self.offset) for name, _ in pairs)
            return {name: item.document(f"{pointer}/{_escaped(name)}", offsets) for name, item in pairs}
        if self.value is list:
            return [item.document(f"{pointer}/{at}", offsets) for at, item in enumerate(self.items)]
        return self.value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _object(offset: int, **parts: _Part) -> _Part:
    return _Part(dict, offset, tuple(parts.values()), tuple(parts))


def _comparison(operator: str, name: Token, operand: _Part) -> _Part:
    """`{operator: {field: operand}}`, which is at the field."""
    at = name.offset
    return _object(at, **{operator: _Part(dict, at, (operand,), (name.value,))})


@dataclass
class _Parser:
    text: str
    words: list[Token]
    at: int = 0
    nesting: int = 0

    @property
    def next(self) -> Token:
        return self.words[self.at]

    def take(self) -> Token:
        word = self.words[self.at]
        self.at += 1
        return word

    def accept(self, *kinds: str) -> Token | None:
        return self.take() if self.next.kind in kinds else None

    def expect(self, kind: str, what: str) -> Token:
        return self.accept(kind) or self.refuse(f"expected {what}")

    def refuse(self, detail: str, word: Token | None = None) -> NoReturn:
        word = word or self.next
        refuse_at(self.text, word.offset, detail + (", and the text ends" if word.kind == "end" else ""))

    def whole(self) -> _Part:
        found = self.expression()
        if self.next.kind != "end":
            self.refuse("expected 'and', 'or' or the end")
        return found

    def expression(self) -> _Part:
        return self.joined("or", lambda: self.joined("and", self.term))

    def joined(self, word: str, operand: Any) -> _Part:
        first = operand()
        terms = [first]
        while self.accept(word):
            terms.append(operand())
        if len(terms) == 1:
            only: _Part = first
            return only
        return _object(first.offset, **{word: _Part(list, first.offset, tuple(terms))})

    def term(self) -> _Part:
        start = self.next
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            self.refuse(f"it nests deeper than {_MAX_NESTING} levels; flatten it")
        found = self.nested(start)
        self.nesting -= 1
        return found

    def nested(self, start: Token) -> _Part:
        if self.accept("not"):
            return _object(start.offset, **{"not": self.term()})
        if self.accept("("):
            found = self.expression()
            self.expect(")", "')'")
            return found
        if self.accept("exists"):
            self.expect("(", "'(' and a field, as in exists(category)")
            name = self.field()
            self.expect(")", "')'")
            return _object(name.offset, exists=_Part(name.value, name.offset))
        if start.kind == "word" and start.value == "colour" and self.words[self.at + 1].kind == "(":
            return self.colour()
        if start.kind in _VALUES:
            return self.between(self.value())
        return self.compared(self.field())

    def colour(self) -> _Part:
        """`colour("red", 0.2)` with a least share, `colour("#aa3322", 15, 0.1)` with a distance too."""
        start = self.take()
        given = self.listed(self.value).items
        near = isinstance(given[0].value, str) and given[0].value.startswith("#")
        names = ("near", "within", "min_share") if near else ("name", "min_share")
        if len(given) > len(names):
            self.refuse(f"colour takes {', '.join(names)}", start)
        parts = dict(zip(names, given, strict=False))
        return _object(start.offset, colour=_object(start.offset, **parts))

    def field(self) -> Token:
        if self.next.kind in (*_VALUES, "word"):
            return self.expect("word", "a field before the operator, such as category")
        return self.refuse(
            "expected a field, 'not', 'exists' or '('; put a field in backticks if it is no plain word"
        )

    def compared(self, name: Token) -> _Part:
        word = self.take()
        match word.kind:
            case "=":
                return _comparison("eq", name, self.value())
            case "!=":
                return _object(name.offset, **{"not": _comparison("eq", name, self.value())})
            case "^=":
                return _comparison("prefix", name, self.value())
            case "<" | "<=" | ">" | ">=":
                return self.ranged(name, [(word.kind, self.value())])
            case "in":
                return _comparison("in", name, self.listed(self.value))
            case "within":
                return _comparison("within", name, self.listed(self.span))
            case "not":
                self.expect("in", "'in' after 'not'")
                return _object(name.offset, **{"not": _comparison("in", name, self.listed(self.value))})
        return self.refuse("expected an operator after the field: = != < <= > >= ^= in, not in", word)

    def between(self, low: _Part) -> _Part:
        """`1 <= price < 100`: one value of the field is within both."""
        first = self.take()
        if first.kind not in _COMPARE:
            self.refuse(
                "expected a field before this value, or < and a field after it", self.words[self.at - 2]
            )
        name = self.field()
        bounds = [(_MIRRORED[first.kind], low)]
        second = self.accept(*_COMPARE)
        if second:
            bounds.append((second.kind, self.value()))
            if second.kind[0] != first.kind[0]:
                self.refuse("the bounds must face the same way: 1 <= price < 100", second)
        return self.ranged(name, bounds)

    def ranged(self, name: Token, bounds: list[tuple[str, _Part]]) -> _Part:
        parts = {_COMPARE[sign]: value for sign, value in bounds}
        return _comparison("range", name, _object(name.offset, **parts))

    def value(self) -> _Part:
        word = self.take()
        match word.kind:
            case "string" | "number":
                return _Part(word.value, word.offset)
            case "true" | "false":
                return _Part(word.kind == "true", word.offset)
            case "null":
                self.refuse("null cannot be compared; use not exists(FIELD) for a missing value", word)
            case "word":
                self.refuse(f'expected a value; put a string into quotes: "{word.value:.40}"', word)
        return self.refuse("expected a value: a string in quotes, a number, true, false or now-7d", word)

    def listed(self, item: Any) -> _Part:
        opening = self.expect("(", "'(' and values, as in (1, 2)")
        items = [item()]
        while self.accept(","):
            items.append(item())
        self.expect(")", "',' or ')'")
        return _Part(list, opening.offset, tuple(items))

    def span(self) -> _Part:
        """`"2026-01-01" .. "2026-02-01"`: from an instant to before another; either may be left out."""
        start = self.next.offset
        first = _Part(None, start) if self.next.kind == ".." else self.value()
        self.expect("..", "'..' between two times")
        last = _Part(None, start) if self.next.kind in (",", ")") else self.value()
        return _Part(list, start, (first, last))
