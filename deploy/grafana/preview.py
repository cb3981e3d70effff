"""A drawing of the dashboard from a Prometheus' answers: python -m deploy.grafana.preview --help.

It reads the dashboard's file and asks what Grafana would ask, so it also tells which panels have nothing to
show. It is no Grafana: colours, ticks and legends are only like its.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from deploy.grafana.dashboard import PATH, WIDTH
from deploy.grafana.prometheus import Json, Line, PreviewError, Prometheus

PIXELS, UNIT_PIXELS, DPI = 1600, 30, 100
BACK, PANEL, TEXT, FAINT, HEADER = "#111217", "#181b1f", "#ccccdc", "#2c3038", "#8ab8ff"
COLORS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "text": TEXT}
LINES = (
    "#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9",
    "#8ab8ff", "#fade2a", "#96d98d", "#3274d9", "#fa6400", "#ffa6b0",
)  # fmt: skip
SMALL, BIG = 9, 24
NOTHING = "No data"
NOTE = "The dashboard's queries, drawn by deploy/grafana/preview.py, not Grafana itself. Times in UTC."
TICKS, LEGEND_ROW = 26, 17
"""Pixels below a plot: its times, and each row of its legend."""


def shown(value: float, unit: str) -> str:
    """Return a value as its unit is read."""
    if unit == "s":
        return _scaled(value, (3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"))
    if unit == "percentunit":
        return f"{100 * value:.4g}%"
    if unit in ("reqps", "ops"):
        return f"{value:.3g} {'req/s' if unit == 'reqps' else '/s'}"
    return _scaled(value, (1e6, " M"), (1e3, " k"), (1, ""))


def _scaled(value: float, *steps: tuple[float, str]) -> str:
    """Write a value in the largest of some units that it reaches, else in the last."""
    size, name = next((step for step in steps if value >= step[0]), steps[-1])
    return f"{value / size:.4g}{name}"


def draw(dashboard: Json, source: Prometheus, output: Path) -> list[str]:
    """Write the picture; return the titles of the panels that have nothing to show.

    Raises:
        PreviewError: Prometheus does not answer, or a panel is of a kind that is not known here.
    """
    import matplotlib as mpl  # noqa: PLC0415  # only this needs it

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415  # matplotlib's own

    panels = dashboard["panels"]
    for panel in panels:
        if panel["type"] not in PAINTERS:
            found = f"panel {panel['title']!r} is of kind {panel['type']!r}"
            raise PreviewError(f"{found}, expected one of {', '.join(PAINTERS)}")
    units = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 1
    empty = []
    with plt.rc_context({"text.color": TEXT, "axes.edgecolor": FAINT, "xtick.color": TEXT,
                         "ytick.color": TEXT, "axes.facecolor": PANEL, "font.size": SMALL}):  # fmt: skip
        figure = plt.figure(figsize=(PIXELS / DPI, units * UNIT_PIXELS / DPI), dpi=DPI, facecolor=BACK)
        for panel in panels:
            lines = source.lines(panel)
            if panel["type"] != "row" and not lines:
                empty.append(panel["title"])
            PAINTERS[panel["type"]](_Place(figure, panel, units, source.times), lines)
        figure.text(0.5, 0.35 / units, NOTE, ha="center")
        figure.canvas.draw()
        pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
        plt.close(figure)
    pixels.quantize().save(output, optimize=True)  # in 256 colours: half the size
    return empty


class _Place:
    """A panel's place on the figure, in pixels."""

    def __init__(self, figure: Any, panel: Json, units: int, times: list[float]) -> None:
        self.figure, self.panel, self.times = figure, panel, times
        self._height = units * UNIT_PIXELS
        at, unit = panel["gridPos"], PIXELS / WIDTH
        self.left, self.right = at["x"] * unit + 4, (at["x"] + at["w"]) * unit - 4
        self.top, self.bottom = at["y"] * UNIT_PIXELS + 3, (at["y"] + at["h"]) * UNIT_PIXELS - 3
        self.defaults = panel.get("fieldConfig", {}).get("defaults", {})
        self.unit = self.defaults.get("unit", "short")

    def text(self, x: float, y: float, content: str, **style: Any) -> Any:
        """Write at a pixel, counted from the figure's left and top."""
        return self.figure.text(x / PIXELS, 1 - y / self._height, content, **style)

    def move(self, text: Any, x: float, y: float) -> None:
        """Put what is written elsewhere."""
        text.set_position((x / PIXELS, 1 - y / self._height))

    def axes(self, left: float, top: float, right: float, bottom: float) -> Any:
        """Return axes with these margins inside the panel."""
        box = (self.left + left, self._height - self.bottom + bottom,
               self.right - self.left - left - right, self.bottom - self.top - top - bottom)  # fmt: skip
        return self.figure.add_axes(
            (box[0] / PIXELS, box[1] / self._height, box[2] / PIXELS, box[3] / self._height)
        )

    def frame(self) -> None:
        """Draw the panel's ground and title."""
        ground = self.axes(0, 0, 0, 0)
        ground.set(xticks=[], yticks=[])
        self.text(self.left + 10, self.top + 20, self.panel["title"], fontsize=10, weight="bold")

    def say(self, content: str, **style: Any) -> None:
        """Write in the panel's middle."""
        middle = (self.left + self.right) / 2, (self.top + self.bottom) / 2 + 10
        self.text(*middle, content, ha="center", va="center", **style)

    def plot(self, below: float) -> Any:
        """Return axes over time under the title, with room for their ticks and what else is below."""
        axes = self.axes(74, 32, 14, below)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        start, end = self.times[0], self.times[-1]
        axes.set_xlim(start, end)
        ticks = range(60 * math.ceil(start / 60), math.ceil(end), 60 * _minutes(end - start))
        axes.set_xticks(ticks, [datetime.fromtimestamp(at, UTC).strftime("%H:%M") for at in ticks])
        axes.tick_params(length=0)
        return axes


def _minutes(seconds: float) -> int:
    """Return how many minutes apart the times are written, for five of them or fewer."""
    return max(1, math.ceil(seconds / 60 / 5))


def _row(place: _Place, _: list[Line]) -> None:
    place.text(place.left + 4, place.bottom - 6, place.panel["title"], fontsize=12, weight="bold")


def _stat(place: _Place, lines: list[Line]) -> None:
    place.frame()
    color, content = TEXT, place.defaults.get("noValue", NOTHING)
    if lines:
        values = lines[0].values
        last = next(value for value in reversed(values) if not math.isnan(value))
        content = shown(last, place.unit)
        for step in place.defaults.get("thresholds", {}).get("steps", []):
            if step["value"] is None or last >= step["value"]:
                color = COLORS[step["color"]]
        spark = place.axes(0, 0.6 * (place.bottom - place.top), 0, 0)
        spark.axis("off")
        spark.fill_between(place.times, values, color=color, alpha=0.25, linewidth=0)
        spark.set_ylim(0, 1.2 * max(_numbers(values)) or 1)
        spark.set_xlim(place.times[0], place.times[-1])
    place.say(content, fontsize=BIG, color=color)


def _numbers(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _timeseries(place: _Place, lines: list[Line]) -> None:
    place.frame()
    axes = place.plot(below=TICKS + _legend(place, lines))
    if not lines:
        place.say(NOTHING)
    mode = place.defaults.get("custom", {}).get("stacking", {}).get("mode", "none")
    if mode == "none":
        for line, color in zip(lines, _colors(lines), strict=True):
            axes.plot(place.times, line.values, color=color, linewidth=1.3)
    else:
        _stack(axes, place, lines, shares=mode == "percent")
    highest = max((value for line in lines for value in _numbers(line.values)), default=0)
    axes.set_ylim(bottom=0, top=1 if mode == "percent" or not highest else None)
    unit = "percentunit" if mode == "percent" else place.unit
    if unit == "s" and highest >= 120:  # whole minutes, not hundreds of seconds
        axes.yaxis.set_major_locator(_multiples(60 * math.ceil(highest / 60 / 4)))
    else:
        axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))


def _stack(axes: Any, place: _Place, lines: list[Line], *, shares: bool) -> None:
    below = [0.0] * len(place.times)
    totals = [sum(_numbers(column)) for column in zip(*(line.values for line in lines), strict=True)]
    for line, color in zip(lines, _colors(lines), strict=True):
        parts = [0.0 if math.isnan(value) else value for value in line.values]
        if shares:
            parts = [part / total if total else 0.0 for part, total in zip(parts, totals, strict=True)]
        above = [b + part for b, part in zip(below, parts, strict=True)]
        axes.fill_between(place.times, below, above, color=color, alpha=0.4, linewidth=0)
        axes.plot(place.times, [a if part else math.nan for a, part in zip(above, parts, strict=True)],
                  color=color, linewidth=1.2)  # fmt: skip
        below = above


def _heatmap(place: _Place, lines: list[Line]) -> None:
    place.frame()
    axes = place.plot(below=TICKS)
    if not lines:
        place.say(NOTHING)
        return
    lines = sorted(lines, key=lambda line: float(line.labels["le"]))
    lower = [[0.0] * len(place.times), *(line.values for line in lines)]
    # A bucket counts what is faster than its bound, so also all that is in the buckets before it.
    counts = [
        [value - before or math.nan for value, before in zip(line.values, faster, strict=True)]
        for line, faster in zip(lines, lower, strict=False)
    ]
    axes.pcolormesh(place.times, range(len(lines)), counts, cmap="Blues_r", shading="nearest")
    bounds = [float(line.labels["le"]) for line in lines]
    names = ["∞" if bound == math.inf else shown(bound, place.unit) for bound in bounds]
    axes.set_yticks(range(len(lines))[::2], names[::2])
    axes.grid(visible=False)


def _table(place: _Place, lines: list[Line]) -> None:
    place.frame()
    lines = [line for line in lines if not math.isnan(line.values[-1])]  # as it is now
    columns = list(dict.fromkeys(name for line in lines for name in line.labels))
    cells = {name: [line.labels.get(name, "") for line in lines] for name in columns}
    letters = {name: 2 + max(map(len, [name, *cells[name]])) for name in columns}
    x = place.left + 10
    for name in columns:
        place.text(x, place.top + 52, name, color=HEADER)
        for row, cell in enumerate(cells[name]):
            place.text(x, place.top + 78 + 22 * row, cell)
        x += (place.right - place.left - 10) * letters[name] / sum(letters.values())
    if not lines:
        place.say(NOTHING)


def _legend(place: _Place, lines: list[Line]) -> float:
    """Write the names of the lines at the panel's foot; return the height that they take."""
    names: list[tuple[Any, Any, float, int]] = []  # the mark, the name, where it begins, in which row
    x, row = place.left + 10, 0
    for line, color in zip(lines, _colors(lines), strict=True):
        mark = place.text(0, 0, "━", color=color)
        name = place.text(0, 0, line.name)
        width = 18 + name.get_window_extent().width + 14
        if x + width > place.right and x > place.left + 10:
            x, row = place.left + 10, row + 1
        names.append((mark, name, x, row))
        x += width
    for mark, name, x, of in names:
        y = place.bottom - 8 - LEGEND_ROW * (row - of)
        place.move(mark, x, y)
        place.move(name, x + 18, y)
    return LEGEND_ROW * (row + 1)


def _multiples(step: float) -> Any:
    from matplotlib.ticker import MultipleLocator  # noqa: PLC0415

    return MultipleLocator(step)


def _colors(lines: list[Line]) -> list[str]:
    return [LINES[number % len(LINES)] for number in range(len(lines))]


PAINTERS: dict[str, Callable[[_Place, list[Line]], None]] = {
    "row": _row, "stat": _stat, "timeseries": _timeseries, "heatmap": _heatmap, "table": _table
}  # fmt: skip


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.preview", description=__doc__)
    add = parser.add_argument
    add("--prometheus", default="http://localhost:9090", help="its address (default: %(default)s)")
    add("--job", default="recjpq", help="the service's job there (default: %(default)s)")
    add("--scrape-s", type=float, default=5.0, help="seconds between its scrapes (default: %(default)s)")
    add("--minutes", type=float, default=30.0, help="how far back (default: %(default)s)")
    add("--output", type=Path, default=Path("docs/dashboard.png"), help="the picture (default: %(default)s)")
    add("--strict", action="store_true", help="fail if a panel has nothing to show")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; returns 1 if it cannot be drawn, or if --strict and a panel is empty."""
    asked = options(arguments)
    dashboard = json.loads(PATH.read_text(encoding="utf-8"))
    source = Prometheus(asked.prometheus, job=asked.job, minutes=asked.minutes, scrape_s=asked.scrape_s)
    try:
        empty = draw(dashboard, source, asked.output)
    except PreviewError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"written: {asked.output}")
    for title in empty:
        print(f"nothing to show: {title}", file=sys.stderr)
    return 1 if empty and asked.strict else 0


if __name__ == "__main__":
    sys.exit(main())
