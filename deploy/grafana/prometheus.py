"""What a Prometheus answers to a dashboard's queries, asked as Grafana would ask."""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from time import time
from typing import Any

from deploy.grafana.dashboard import filled_in

POINTS = 240
"""Of a line, over the whole time, if they are not closer to each other than two scrapes."""
LABEL = re.compile(r"{{\s*(\w+)\s*}}")

Json = dict[str, Any]


class PreviewError(Exception):
    """The dashboard cannot be drawn; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its legend, its labels, and a value at each time of the source, NaN where it has none."""

    name: str
    labels: dict[str, str]
    values: list[float]


class Prometheus:
    """Answers queries over the last minutes."""

    def __init__(self, url: str, *, job: str, minutes: float, scrape_s: float) -> None:
        self._url = url.rstrip("/")
        self._job = job
        seconds, now = 60 * minutes, time()
        self._step_s = max(scrape_s, seconds / POINTS)
        # As Grafana does: four scrapes, so that one may fail, and no gap between two points.
        self._rate_s = max(self._step_s + scrape_s, 4 * scrape_s)
        count = int(seconds / self._step_s)
        self.times = [now - self._step_s * n for n in range(count, -1, -1)]

    def lines(self, panel: Json) -> list[Line]:
        """Return the series of a panel that have a value at all; raises PreviewError."""
        lines = [line for target in panel.get("targets", []) for line in self._ask(target)]
        return [line for line in lines if not all(map(math.isnan, line.values))]

    def _ask(self, target: Json) -> list[Line]:
        query = filled_in(target["expr"], job=self._job, interval=f"{self._rate_s * 1000:.0f}ms")
        if unknown := re.search(r"\$\w+|\${\w+", query):
            raise PreviewError(f"{query} has {unknown[0]}, which only Grafana knows")
        span = {"start": self.times[0], "end": self.times[-1], "step": self._step_s}
        address = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode({'query': query, **span})}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  # the operator's own
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:  # its body says what is wrong with the query
            raise PreviewError(f"{self._url} refuses {query}: {error.read().decode()}") from error
        except (OSError, ValueError, KeyError) as error:
            raise PreviewError(f"{self._url} does not answer {query}: {error}") from error
        return [self._line(series, target["legendFormat"]) for series in found]

    def _line(self, series: Json, legend: str) -> Line:
        labels = {name: value for name, value in series["metric"].items() if name != "__name__"}
        automatic = ", ".join(labels.values()) or "value"
        name = LABEL.sub(lambda match: labels.get(match[1], ""), legend)
        values = [math.nan] * len(self.times)
        for at, value in series["values"]:
            values[round((at - self.times[0]) / self._step_s)] = float(value)
        return Line(automatic if legend == "__auto" else name.strip(), labels, values)
