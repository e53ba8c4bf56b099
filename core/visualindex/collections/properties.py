"""Java `.properties` text, the format of furniture catalogues: comments, continuation lines, `\\u` escapes."""

import re

_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_KEY = re.compile(r"(?:\\.|[^\\=: \t\f])+")
_SEPARATOR = re.compile(r"[ \t\f]*[=:]?[ \t\f]*")
_LINE_END = re.compile(r"\r\n|\r|\n")


def parse_properties(data: bytes) -> dict[str, str]:
    """Keys and values of a properties file, which is ISO-8859-1 by definition; a later key replaces an earlier."""
    pairs = (_pair(line) for line in _logical_lines(data.decode("iso-8859-1")))
    return dict(pairs)


def _logical_lines(text: str) -> list[str]:
    """Lines without comments and blanks, each joined with those it continues on after an odd backslash."""
    lines: list[str] = []
    continued = False
    for raw in _LINE_END.split(text):
        line = raw.lstrip(" \t\f")
        if not continued and (not line or line[0] in "#!"):
            continue
        joined = lines.pop() + line if continued else line
        continued = (len(joined) - len(joined.rstrip("\\"))) % 2 == 1
        lines.append(joined[:-1] if continued else joined)
    return lines


def _pair(line: str) -> tuple[str, str]:
    match = _KEY.match(line)
    key = match.group() if match else ""
    separator = _SEPARATOR.match(line, len(key))
    return _unescape(key), _unescape(line[separator.end() if separator else len(key) :])


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    code = match.group(1)
    return chr(int(code[1:], 16)) if len(code) == 5 else _CONTROL.get(code, code)
