"""Small line charts as inline SVG, drawn here so that the page needs no script and no library. Colours are classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 26


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One series. ``style`` is a CSS class that gives its colour."""

    name: str
    style: str
    points: tuple[tuple[float, float], ...]  # (step, value), ascending steps


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) inside [low, high], about as many as wanted."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** floor(log10(raw))
    step = next((factor * power for factor in (1, 2, 5, 10) if factor * power >= raw), 10 * power)
    first = -floor(-low / step + 1e-9)
    return [round((first + index) * step, 12) for index in range(int((high - first * step) / step + 1e-9) + 1)]


def short_number(value: float) -> str:
    """At most four characters or so: 1200 → 1.2k, 0.00031 → 3e-4."""
    if value == 0:
        return "0"
    if abs(value) < 0.005:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.3g}"


def line_chart(lines: Sequence[Line], *, title: str, low: float | None = None, high: float | None = None) -> str:
    """One chart as SVG text, with a legend where there are several lines; empty where there is no finite point.

    ``low`` and ``high`` fix the value axis; otherwise it fits the points.
    """
    drawn = [
        Line(name=line.name, style=line.style, points=tuple(p for p in line.points if isfinite(p[1]))) for line in lines
    ]
    points = [point for line in drawn for point in line.points]
    if not points:
        return ""
    x0, x1 = min(x for x, _ in points), max(x for x, _ in points)
    y0 = low if low is not None else min(y for _, y in points)
    y1 = high if high is not None else max(y for _, y in points)
    if y1 <= y0:
        y0, y1 = y0 - (abs(y0) * 0.1 or 1.0), y1 + (abs(y1) * 0.1 or 1.0)

    def to_x(x: float) -> float:
        return LEFT + (x - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - RIGHT)

    def to_y(y: float) -> float:
        return HEIGHT - BOTTOM - (min(max(y, y0), y1) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in nice_ticks(y0, y1):
        y = to_y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{short_number(tick)}</text>'
        )
    for tick in nice_ticks(x0, x1):
        anchor = "middle" if x0 < tick < x1 else "start" if tick <= x0 and x1 > x0 else "end"
        place = f'x="{to_x(tick):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}"'
        parts.append(f'<text class="tick" {place}>{short_number(tick)}</text>')
    for line in drawn:
        if len(line.points) == 1:
            x, y = line.points[0]
            parts.append(f'<circle class="dot {line.style}" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="3"/>')
        elif line.points:
            path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in line.points)
            parts.append(f'<polyline class="line {line.style}" points="{path}"/>')
    parts.append("</svg>")
    if len(drawn) > 1:
        names = dict.fromkeys((line.name, line.style) for line in drawn)
        keys = "".join(f'<span><i class="key {style}"></i>{escape(name)}</span>' for name, style in names)
        parts.append(f'<div class="legend">{keys}</div>')
    return "".join(parts)
