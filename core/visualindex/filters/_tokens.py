"""The words of the short text form, each with its place in the text."""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from visualindex.errors import ProblemError, ProblemType

_SHOWN = 60
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<quoted>`(?:[^`]|``)+`)
    |(?P<time>now(?:[+-]\d+[smhdw])?(?![\w.+-]))
    |(?P<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w]))
    |(?P<word>[^\W\d][\w-]*(?:\.[\w-]+)*)
    |(?P<symbol>\.\.|\^=|!=|<=|>=|[=<>(),])
    |(?P<end>$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}
_LONGEST_NUMBER = 400


@dataclass(frozen=True)
class Token:
    """One word: its kind is a name of `_TOKEN`'s groups, or the word or symbol itself where that has a meaning."""

    kind: str
    value: Any
    offset: int


_KEYWORDS = frozenset({"and", "or", "not", "in", "exists", "within", "true", "false", "null"})


def refuse_at(text: str, offset: int, detail: str) -> NoReturn:
    """Raise the problem of the part of the text at a character offset, with a caret below it."""
    start = max(0, offset - _SHOWN)
    shown = "".join(sign if sign.isprintable() else " " for sign in text[start : offset + _SHOWN])
    caret = " " * (offset - start) + "^"
    raise ProblemError(
        ProblemType.INVALID_FILTER,
        f"The filter is wrong at character {offset}: {detail}\n  {shown}\n  {caret}",
        extra={"offset": offset, "pointer": ""},
    )


def tokens(text: str) -> list[Token]:
    """The words of a text and an `end`. Raises `ProblemError(INVALID_FILTER)` at what is no word."""
    found: list[Token] = []
    at = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None:
            _refuse_sign(text, at)
        kind = str(match.lastgroup)
        found.append(_token(text, kind, match[kind], match.start(kind)))
        at = match.end()
    return found


def _refuse_sign(text: str, at: int) -> NoReturn:
    at += len(text[at:]) - len(text[at:].lstrip())
    if text[at] in "\"'`":
        refuse_at(text, at, f"this {text[at]} is not closed")
    refuse_at(text, at, "expected a field, a value or an operator here")


def _token(text: str, kind: str, written: str, offset: int) -> Token:
    match kind:
        case "string":
            return Token("string", _unescaped(text, written, offset), offset)
        case "quoted":
            return Token("word", written[1:-1].replace("``", "`"), offset)
        case "time":
            return Token("string", written, offset)
        case "number":
            if len(written) > _LONGEST_NUMBER:
                refuse_at(text, offset, f"the number has more than {_LONGEST_NUMBER} characters")
            return Token("number", _number(written), offset)
        case "word" if written.lower() in _KEYWORDS:
            return Token(written.lower(), written, offset)
        case "symbol":
            return Token(written, written, offset)
    return Token(kind, written, offset)


def _number(written: str) -> int | float:
    """Integers beyond 64 bits are rounded, as the services' reader of JSON does."""
    found: int | float = json.loads(written)
    return float(written) if isinstance(found, int) and not -(2**63) <= found < 2**64 else found


def _unescaped(text: str, written: str, offset: int) -> str:
    def sign(found: re.Match[str]) -> str:
        code = found[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPED:
            refuse_at(
                text, offset + 1 + found.start(), f"unknown escape \\{code}; write \\\\ for a backslash"
            )
        return _ESCAPED[code]

    plain = _ESCAPE.sub(sign, written[1:-1])
    # Escapes name UTF-16 units, as in JSON: two of them may be one character.
    try:
        found = plain.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        refuse_at(text, offset, "the string has half of a surrogate pair; write the character itself")
    if "\0" in found:
        refuse_at(text, offset, "the string holds a NUL character, which no value can; remove it")
    return found
