"""A recall curve as a picture: recall over the latency of a query, with the chosen effort marked.

In a terminal it is drawn with characters, for a page as SVG.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 56, 12
"""Columns and rows of the drawing area in a terminal."""
_POINT, _CHOSEN, _TARGET = "●", "◆", "┄"


@dataclass(frozen=True)
class Point:
    """One measured effort."""

    latency_ms: float
    recall: float
    effort: str
    chosen: bool


@dataclass(frozen=True)
class Curve:
    """What was measured of one shard's index."""

    family: str
    target: float
    points: tuple[Point, ...]
    exact_latency_ms: float
    queries: int

    @property
    def chosen(self) -> Point | None:
        """The effort that searches use."""
        return next((point for point in self.points if point.chosen), None)


def read_curve(document: Mapping[str, Any]) -> Curve:
    """A shard's entry of `curves` as the API tells it; a scanned shard has no points."""
    chosen = document.get("chosen")
    points = [
        Point(
            latency_ms=float(one["latency_ms"]),
            recall=float(one["recall"]),
            effort=_effort(one["effort"]),
            chosen=one["effort"] == chosen,
        )
        for one in document.get("curve", [])
    ]
    return Curve(
        family=str(document.get("family", "")),
        target=float(document.get("target", 0.0)),
        points=tuple(points),
        exact_latency_ms=float(document.get("exact_latency_ms", 0.0)),
        queries=int(document.get("queries", 0)),
    )


def _effort(effort: Mapping[str, Any]) -> str:
    """What the index is asked for, such as `ef_search 64`."""
    told = [f"{name} {value}" for name, value in effort.items() if value is not None and name != "rescore"]
    if effort.get("rescore", 1) not in (None, 1):
        told.append(f"rescore {effort['rescore']}")
    return ", ".join(told)


class _Scale:
    """Where values lie in a range of places, with the values at both ends."""

    def __init__(self, low: float, high: float, places: int) -> None:
        self.low, self.high = low, high
        self._places = places

    def place(self, value: float) -> float:
        """0 at `low`, `places` - 1 at `high`."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return min(1.0, max(0.0, share)) * (self._places - 1)


def _scales(curve: Curve, columns: int, rows: int) -> tuple[_Scale, _Scale]:
    """Latency from 0, recall from a little below the least to 1."""
    least = min([curve.target, *(point.recall for point in curve.points)])
    step = 0.1 if least < 0.8 else 0.05 if least < 0.95 else 0.01
    slowest = max(point.latency_ms for point in curve.points)
    floor = max(0.0, (least // step - (least % step < step / 10)) * step)
    return _Scale(0.0, slowest * 1.05, columns), _Scale(floor, 1.0, rows)


def in_characters(curve: Curve) -> list[str]:
    """The plot as lines of text; none where nothing was measured."""
    if not curve.points:
        return []
    across, up = _scales(curve, WIDTH, HEIGHT)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    grid[_row(up, curve.target)] = [_TARGET] * WIDTH
    for point in sorted(curve.points, key=lambda point: point.chosen):
        mark = _CHOSEN if point.chosen else _POINT
        grid[_row(up, point.recall)][round(across.place(point.latency_ms))] = mark
    labels = {0: f"{up.high:.3f}", HEIGHT - 1: f"{up.low:.3f}"}
    labels.setdefault(_row(up, curve.target), f"{curve.target:.3f}")
    lines = [f"{labels.get(row, ''):>7} │{''.join(cells)}" for row, cells in enumerate(grid)]
    ends = f"{'0 ms':<{WIDTH - 10}}{across.high:>7.2f} ms"
    return ["recall@10", *lines, f"{'':>7} └{'─' * WIDTH}", f"{'':>9}{ends}", _legend(curve)]


def _row(up: _Scale, recall: float) -> int:
    return HEIGHT - 1 - round(up.place(recall))


def _legend(curve: Curve) -> str:
    text = f"{'':>9}{_POINT} an effort   {_TARGET * 2} the target, {curve.target:g}"
    if curve.chosen is None:
        return text
    point = curve.chosen
    return f"{text}   {_CHOSEN} chosen: {point.effort} ({point.recall:.3f} in {point.latency_ms:.2f} ms)"


_SVG = (640, 360)
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 40, 48
_FONT = 'font-family="sans-serif" font-size="12" fill="#333"'


def as_svg(curve: Curve, title: str) -> str:
    """The plot as an SVG document; the place for the points stays empty where nothing was measured."""
    width, height = _SVG
    right, bottom = width - _RIGHT, height - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _text(_LEFT, 22, title, "start", 'font-weight="bold"'),
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#333"/>',
        _text((_LEFT + right) / 2, height - 12, "CPU milliseconds of one query", "middle"),
    ]
    if curve.points:
        parts += _drawn(curve, right, bottom)
    else:
        parts.append(_text((_LEFT + right) / 2, height / 2, "every row is scanned: recall is 1", "middle"))
    return "\n".join([*parts, "</svg>", ""])


def _drawn(curve: Curve, right: int, bottom: int) -> list[str]:
    across, up = _scales(curve, right - _LEFT + 1, bottom - _TOP + 1)

    def at(point: Point) -> tuple[float, float]:
        return round(_LEFT + across.place(point.latency_ms), 1), round(bottom - up.place(point.recall), 1)

    target, middle = round(bottom - up.place(curve.target), 1), (_TOP + bottom) / 2
    line = " ".join(f"{x},{y}" for x, y in map(at, curve.points))
    parts = [
        f'<path d="M{_LEFT} {target}H{right}" stroke="#b35900" stroke-dasharray="4 4"/>',
        _text(right, target - 5, f"target {curve.target:g}", "end"),
        f'<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="1.5"/>',
        _text(_LEFT - 8, _TOP + 4, f"{up.high:.3f}", "end"),
        _text(_LEFT - 8, bottom + 4, f"{up.low:.3f}", "end"),
        _text(_LEFT, bottom + 18, "0", "middle"),
        _text(right, bottom + 18, f"{across.high:.2f}", "end"),
        _text(24, middle, "recall@10", "middle", f'transform="rotate(-90 24 {middle})"'),
    ]
    for point in curve.points:
        x, y = at(point)
        size, colour = (6, "#b35900") if point.chosen else (3.5, "#1f6feb")
        hint = f"{point.effort}: recall {point.recall:.4f}, {point.latency_ms:.3f} ms"
        parts.append(
            f'<circle cx="{x}" cy="{y}" r="{size}" fill="{colour}"><title>{escape(hint)}</title></circle>'
        )
    if curve.chosen is not None:
        x, y = at(curve.chosen)
        label = f"chosen: {curve.chosen.effort}"
        left = x > _LEFT + 200  # else there is no room for it: below the point, right of it
        parts.append(_text(x - 10, y - 8, label, "end") if left else _text(x + 10, y + 18, label, "start"))
    return parts


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" {_FONT} {more}>{escape(text)}</text>'.replace(
        " >", ">"
    )
