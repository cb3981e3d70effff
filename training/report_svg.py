"""Line charts as inline SVG; colours and type come from the page's style sheet, by class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: y at every x, and the class that colours it."""

    label: str
    style: str
    xs: Sequence[float]
    ys: Sequence[float]


def line_chart(
    curves: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    from_zero: bool = True,
    x_names: Sequence[tuple[str, str]] | None = None,
    mark: float | None = None,
) -> str:
    """Return an SVG of curves over one axis.

    Args:
        curves: at least one, with at least one point.
        title: what a screen reader says.
        x_label: below the x axis.
        from_zero: whether the y axis starts at 0.
        x_names: names of x = 0, 1, and so on, each with a second line; numbers on the axis if None.
        mark: an x to draw a vertical line at.
    """
    ys = [y for curve in curves for y in curve.ys]
    y_ticks = nice_ticks(0.0 if from_zero else min(ys), max(ys))
    low, high = y_ticks[0], y_ticks[-1]
    xs = [x for curve in curves for x in curve.xs]
    first, last = (-0.5, len(x_names) - 0.5) if x_names else (min(xs), max(xs))
    spread = last - first or 1.0
    bottom = HEIGHT - BOTTOM

    def across(x: float) -> float:
        return round(LEFT + (x - first) / spread * (WIDTH - LEFT - RIGHT), 1)

    def up(y: float) -> float:
        return round(bottom - (y - low) / (high - low) * (bottom - TOP), 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick, name in zip(y_ticks, tick_names(y_ticks), strict=True):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick)}" y2="{up(tick)}"/>')
        parts.append(_text(LEFT - 8, up(tick) + 4, name, "end"))
    if x_names:
        for x, (name, below) in enumerate(x_names):
            parts += [_text(across(x), bottom + 15, name), _text(across(x), bottom + 28, below)]
    else:
        x_ticks = [tick for tick in nice_ticks(first, last) if first <= tick <= last and tick == int(tick)]
        parts += [_text(across(tick), bottom + 16, f"{tick:.0f}") for tick in x_ticks]
        parts.append(_text(WIDTH - RIGHT, HEIGHT - 6, x_label, "end"))
    if mark is not None:
        parts.append(f'<line class="best" x1="{across(mark)}" x2="{across(mark)}" y1="{TOP}" y2="{bottom}"/>')
    for curve in curves:
        parts += _curve(curve, [(across(x), up(y)) for x, y in zip(curve.xs, curve.ys, strict=True)])
    return "".join([*parts, "</svg>"])


def _curve(curve: Curve, points: Sequence[tuple[float, float]]) -> list[str]:
    way = " ".join(f"{x},{y}" for x, y in points)
    parts = [f'<polyline class="curve {curve.style}" points="{way}"/>'] if len(points) > 1 else []
    if len(points) <= 30:
        radius = 3
        parts += [
            f'<circle class="dot {curve.style}" cx="{x}" cy="{y}" r="{radius}"><title>{escape(curve.label)}: '
            f"{value:.4g}</title></circle>"
            for (x, y), value in zip(points, curve.ys, strict=True)
        ]
    return parts


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return about `wanted` multiples of 1, 2 or 5 times a power of ten that enclose an interval."""
    high = high if high > low else low + (abs(low) or 1.0)
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_names(ticks: Sequence[float]) -> list[str]:
    """Return the ticks as text, all with the decimals that their step needs."""
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return [f"{tick:.{decimals}f}" for tick in ticks]
