"""A drawing of the dashboard from a Prometheus' answers: python -m deploy.grafana.preview --help.

It reads the dashboard's file and asks what Grafana would ask, so it also tells which panels have nothing to
show. It is no Grafana: colours, ticks and legends are only like its.
"""

import argparse
import json
import math
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from deploy.grafana.dashboard import PATH, WIDTH

PIXELS, UNIT_PIXELS, DPI = 1600, 27, 100
POINTS = 240
"""Of a line, over the whole time."""
BACK, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#ccccdc", "#2c3038"
COLORS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "text": TEXT}
LINES = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a", "#96d98d")
NOTE = "Drawn from the dashboard's own queries by deploy/grafana/preview.py; Grafana's rendering differs."

Json = dict[str, Any]


class PreviewError(Exception):
    """The dashboard cannot be drawn; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its legend, labels, and values over seconds since 1970."""

    name: str
    labels: dict[str, str]
    times: list[float]
    values: list[float]


class Prometheus:
    """Answers a dashboard's queries over the last minutes."""

    def __init__(self, url: str, job: str, minutes: float) -> None:
        self._url = url.rstrip("/")
        self._job = job
        self.end = time()
        self.start = self.end - 60 * minutes

    def lines(self, panel: Json) -> list[Line]:
        """Return every series of a panel; raises PreviewError."""
        return [line for target in panel.get("targets", []) for line in self._ask(target)]

    def _ask(self, target: Json) -> list[Line]:
        query = target["expr"].replace("$__rate_interval", "1m").replace("$job", self._job)
        step = max(1.0, (self.end - self.start) / POINTS)
        parameters = {"query": query, "start": self.start, "end": self.end, "step": step}
        address = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  # the operator's own
                found = json.load(answer)["data"]["result"]
        except (OSError, ValueError, KeyError) as error:
            raise PreviewError(f"{self._url} does not answer {query}: {error}") from error
        return [_line(series, target["legendFormat"]) for series in found]


def _line(series: Json, legend: str) -> Line:
    labels = {name: value for name, value in series["metric"].items() if name != "__name__"}
    automatic = ", ".join(labels.values()) or "value"
    name = (
        automatic
        if legend == "__auto"
        else re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match[1], ""), legend)
    )
    times, values = zip(*[(at, float(value)) for at, value in series["values"]], strict=True)
    return Line(name.strip(), labels, list(times), list(values))


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

    panels = dashboard["panels"]
    units = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 1
    empty = []
    with plt.rc_context({"text.color": TEXT, "axes.edgecolor": FAINT, "xtick.color": TEXT,
                         "ytick.color": TEXT, "axes.facecolor": PANEL, "font.size": 8}):  # fmt: skip
        figure = plt.figure(figsize=(PIXELS / DPI, units * UNIT_PIXELS / DPI), dpi=DPI, facecolor=BACK)
        for panel in panels:
            if panel["type"] not in PAINTERS:
                found = f"panel {panel['title']!r} is of kind {panel['type']!r}"
                raise PreviewError(f"{found}, expected one of {', '.join(PAINTERS)}")
            lines = source.lines(panel)
            if panel["type"] != "row" and not lines:
                empty.append(panel["title"])
            PAINTERS[panel["type"]](_Place(figure, panel, units, source), lines)
        figure.text(0.5, 0.35 / units, NOTE, ha="center", fontsize=8, alpha=0.7)
        figure.savefig(output, facecolor=BACK)
        plt.close(figure)
    return empty


class _Place:
    """A panel's place on the figure, in pixels."""

    def __init__(self, figure: Any, panel: Json, units: int, source: Prometheus) -> None:
        self.figure, self.panel, self.source = figure, panel, source
        self._height = units * UNIT_PIXELS
        at, unit = panel["gridPos"], PIXELS / WIDTH
        self.left, self.right = at["x"] * unit + 4, (at["x"] + at["w"]) * unit - 4
        self.top, self.bottom = at["y"] * UNIT_PIXELS + 3, (at["y"] + at["h"]) * UNIT_PIXELS - 3
        self.defaults = panel.get("fieldConfig", {}).get("defaults", {})
        self.unit = self.defaults.get("unit", "short")

    def text(self, x: float, y: float, content: str, **style: Any) -> None:
        """Write at a pixel, counted from the figure's left and top."""
        self.figure.text(x / PIXELS, 1 - y / self._height, content, **style)

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
        self.text(self.left + 8, self.top + 16, self.panel["title"], fontsize=9, weight="bold")

    def plot(self, below: float) -> Any:
        """Return axes over time under the title, with room for a legend below."""
        axes = self.axes(62, 26, 12, below)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_xlim(self.source.start, self.source.end)
        ticks = [self.source.start + (self.source.end - self.source.start) * (n + 0.5) / 4 for n in range(4)]
        axes.set_xticks(ticks, [datetime.fromtimestamp(at, UTC).strftime("%H:%M") for at in ticks])
        axes.tick_params(length=0)
        return axes


def _row(place: _Place, _: list[Line]) -> None:
    place.text(place.left + 4, place.bottom - 6, place.panel["title"], fontsize=11, weight="bold")


def _stat(place: _Place, lines: list[Line]) -> None:
    place.frame()
    color, content = TEXT, place.defaults.get("noValue", "No data")
    if lines and not math.isnan(lines[0].values[-1]):
        value = lines[0].values[-1]
        content = shown(value, place.unit)
        for step in place.defaults.get("thresholds", {}).get("steps", []):
            if step["value"] is None or value >= step["value"]:
                color = COLORS[step["color"]]
        spark = place.axes(0, 0.6 * (place.bottom - place.top), 0, 0)
        spark.axis("off")
        spark.fill_between(lines[0].times, lines[0].values, color=color, alpha=0.25, linewidth=0)
        spark.set_ylim(0, 1.2 * max(lines[0].values) or 1)
        spark.set_xlim(place.source.start, place.source.end)
    middle = (place.left + place.right) / 2, (place.top + place.bottom) / 2 + 10
    place.text(*middle, content, fontsize=20, color=color, ha="center", va="center")


def _timeseries(place: _Place, lines: list[Line]) -> None:
    place.frame()
    axes = place.plot(below=44)
    custom = place.defaults.get("custom", {})
    mode = custom.get("stacking", {}).get("mode", "none")
    if mode == "none" or not lines:
        for line, color in zip(lines, _colors(lines), strict=True):
            axes.plot(line.times, line.values, color=color, linewidth=1.2)
    else:
        _stack(axes, lines, shares=mode == "percent")
    unit = "percentunit" if mode == "percent" else place.unit
    axes.set_ylim(bottom=0, top=1 if mode == "percent" else None)
    axes.yaxis.set_major_locator(_locator(4))
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    _legend(place, lines)


def _stack(axes: Any, lines: list[Line], *, shares: bool) -> None:
    times = sorted({at for line in lines for at in line.times})
    rows = [dict(zip(line.times, line.values, strict=True)) for line in lines]
    values = [[row.get(at, 0.0) for at in times] for row in rows]
    if shares:
        totals = [sum(column) or 1.0 for column in zip(*values, strict=True)]
        values = [[v / total for v, total in zip(row, totals, strict=True)] for row in values]
    axes.stackplot(times, values, colors=_colors(lines), alpha=0.55)


def _heatmap(place: _Place, lines: list[Line]) -> None:
    place.frame()
    axes = place.plot(below=24)
    lines = sorted(lines, key=lambda line: float(line.labels["le"]))
    counts: list[list[float]] = []
    for below, line in zip([None, *lines], lines, strict=False):
        counts.append([v - (below.values[i] if below else 0.0) for i, v in enumerate(line.values)])
    if lines:
        some = [[count or math.nan for count in row] for row in counts]
        axes.pcolormesh(lines[0].times, range(len(lines)), some, cmap="Blues_r", shading="nearest")
        bounds = [float(line.labels["le"]) for line in lines]
        axes.set_yticks(
            range(len(lines)), ["∞" if bound == math.inf else shown(bound, "s") for bound in bounds]
        )
        axes.tick_params(axis="y", labelsize=7)
        axes.grid(visible=False)


def _table(place: _Place, lines: list[Line]) -> None:
    place.frame()
    columns = list(dict.fromkeys(name for line in lines for name in line.labels))
    width = (place.right - place.left - 16) / max(1, len(columns))
    for number, name in enumerate(columns):
        x = place.left + 8 + number * width
        place.text(x, place.top + 44, name, fontsize=8, color="#8ab8ff")
        for row, line in enumerate(lines):
            place.text(x, place.top + 66 + 20 * row, line.labels.get(name, ""), fontsize=7.5)


def _legend(place: _Place, lines: list[Line]) -> None:
    x, y = place.left + 10, place.bottom - 20
    for line, color in zip(lines, _colors(lines), strict=True):
        wide = 18 + 6.2 * len(line.name)
        if x + wide > place.right:
            x, y = place.left + 10, y + 12
        place.text(x, y, "━", color=color, fontsize=9)
        place.text(x + 14, y, line.name, fontsize=7.5)
        x += wide


def _colors(lines: list[Line]) -> list[str]:
    return [LINES[number % len(LINES)] for number in range(len(lines))]


def _locator(most: int) -> Any:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    return MaxNLocator(most)


PAINTERS: dict[str, Callable[[_Place, list[Line]], None]] = {
    "row": _row, "stat": _stat, "timeseries": _timeseries, "heatmap": _heatmap, "table": _table
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; returns 1 if it cannot be drawn, or if --strict and a panel is empty."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.preview", description=__doc__)
    add = parser.add_argument
    add("--prometheus", default="http://localhost:9090", help="its address (default: %(default)s)")
    add("--job", default="recjpq", help="the service's job there (default: %(default)s)")
    add("--minutes", type=float, default=30.0, help="how far back (default: %(default)s)")
    add("--output", type=Path, default=Path("docs/dashboard.png"), help="the picture (default: %(default)s)")
    add("--strict", action="store_true", help="fail if a panel has nothing to show")
    options = parser.parse_args(arguments)
    dashboard = json.loads(PATH.read_text(encoding="utf-8"))
    source = Prometheus(options.prometheus, options.job, options.minutes)
    try:
        empty = draw(dashboard, source, options.output)
    except PreviewError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"written: {options.output}")
    for title in empty:
        print(f"nothing to show: {title}", file=sys.stderr)
    return 1 if empty and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
