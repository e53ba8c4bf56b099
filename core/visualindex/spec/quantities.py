"""Quantities as Kubernetes writes them: byte sizes (`512Mi`, `2Gi`, `1G`, or a plain number) and CPUs (`2`, `500m`)."""

import re
from decimal import Decimal
from typing import Any

_BINARY = {suffix: 1024**power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)}
_DECIMAL = {suffix: 1000**power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)}
_FACTORS = {"": 1, **_BINARY, **_DECIMAL}
_QUANTITY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,18})?)([A-Za-z]{0,2})")
_LARGEST = 2**63 - 1
_FORM = "write a number of bytes or a Kubernetes quantity such as 512Mi or 2Gi"


def parse_bytes(value: Any) -> Any:
    """Bytes of a quantity string; anything but a string passes through for the model to judge.

    Raises ValueError when the string is no quantity of whole bytes below 2**63.
    """
    if not isinstance(value, str):
        return value
    match = _QUANTITY.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"'{value}' is not a byte size: {_FORM}")
    number, suffix = match.groups()
    if suffix not in _FACTORS:
        raise ValueError(f"'{value}' has the unknown suffix '{suffix}'{_suffix_hint(suffix)}: {_FORM}")
    return _whole_bytes(value, Decimal(number) * _FACTORS[suffix])


def format_bytes(count: int) -> str:
    """The shortest exact quantity of `count` bytes: 2147483648 is `2Gi`, 1000 is `1000`."""
    for suffix, factor in reversed(_BINARY.items()):
        if count and count % factor == 0:
            return f"{count // factor}{suffix}"
    return str(count)


def parse_cpus(text: str) -> int:
    """Thousandths of a CPU of a quantity such as `2`, `0.5` or `500m`."""
    return int(text[:-1]) if text.endswith("m") else round(float(text) * 1000)


def format_cpus(millis: int) -> str:
    """The quantity of `millis` thousandths of a CPU: 2000 is `2`, 500 is `500m`."""
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def _whole_bytes(text: str, size: Decimal) -> int:
    if size != int(size):
        raise ValueError(f"'{text}' is not a whole number of bytes: {_FORM}")
    if size > _LARGEST:
        raise ValueError(f"'{text}' is beyond the largest byte size, 8Ei: {_FORM}")
    return int(size)


def _suffix_hint(suffix: str) -> str:
    """Users write `GB` and `gi`; Kubernetes knows neither."""
    wanted = suffix[:1].lower()
    known = [name for name in _FACTORS if name and name[0].lower() == wanted]
    return f" (known: {', '.join(known)})" if known else ""
