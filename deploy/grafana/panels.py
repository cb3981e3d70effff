"""What the dashboard asks: its rows are questions, in the order in which an on-call engineer asks them."""

from dataclasses import dataclass, field
from typing import Any, Literal

SERVED = 'job="$job", route=~"/recommend.*|/users/.*|/items.*"'
FAILED = SERVED + ', status=~"5.."'
RECOMMEND = 'route="/recommend"'
MODEL = "variant, name, version, backbone, scorer, provider"
BY_MODEL = 'strategy="model"'

Kind = Literal["stat", "timeseries", "heatmap", "table"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its title, what it asks (legend -> expression), how it looks."""

    title: str
    queries: dict[str, str]
    width: int
    kind: Kind = "timeseries"
    unit: str = "short"
    about: str = ""
    height: int = 8
    options: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)


def rate(metric: str, selector: str = "", *, by: str = "") -> str:
    """Return the sum of a counter's rates over the instances, apart by labels."""
    labels = selector if "job=" in selector else ", ".join(filter(None, ('job="$job"', selector)))
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(q: float, histogram: str, selector: str = "", *, by: str = "") -> str:
    """Return a quantile of a histogram over the instances, apart by labels."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', selector, by=f'{by}, le' if by else 'le')})"


def thresholds(*steps: tuple[str, float | None]) -> dict[str, Any]:
    """Return the colours of a value from each bound on; the first bound is None."""
    return {
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": color, "value": bound} for color, bound in steps],
        }
    }


STACKED = {"custom": {"fillOpacity": 40, "stacking": {"mode": "normal"}}}
SHARES = {"min": 0, "max": 1, "custom": {"fillOpacity": 40, "stacking": {"mode": "percent"}}}
GOOD_IF_UP = {**thresholds(("red", None), ("green", 1)), "noValue": "none"}
BAD_IF_ANY = thresholds(("green", None), ("red", 1))

ROWS: dict[str, list[Panel]] = {
    "Are users served?": [
        Panel("Instances up", {"": 'sum(up{job="$job"})'}, 4, "stat", defaults=GOOD_IF_UP, height=4),
        Panel("Requests", {"": rate("recjpq_requests_total", SERVED)}, 4, "stat", "reqps", height=4),
        Panel(
            "Served",
            {
                "": f"1 - ({rate('recjpq_requests_total', FAILED)} or vector(0))"
                f" / ({rate('recjpq_requests_total', SERVED)} > 0)"
            },
            4,
            "stat",
            "percentunit",
            "The share of the callers' requests that did not end with a 5xx.",
            height=4,
            defaults={
                **thresholds(("red", None), ("orange", 0.99), ("green", 0.999)),
                "noValue": "no traffic",
            },
        ),
        Panel(
            "p99",
            {"": quantile(0.99, "recjpq_request_duration_seconds", RECOMMEND)},
            4,
            "stat",
            "s",
            "One recommendation in a hundred takes longer.",
            height=4,
            defaults={**thresholds(("green", None), ("orange", 0.05), ("red", 0.1)), "noValue": "no traffic"},
        ),
        Panel(
            "By the model",
            {
                "": f"{rate('recjpq_recommendations_total', BY_MODEL)}"
                f" / ({rate('recjpq_recommendations_total')} > 0)"
            },
            4,
            "stat",
            "percentunit",
            "The share of the recommendations that the model made; the rest are popular items.",
            height=4,
            defaults={"noValue": "no traffic"},
        ),
        Panel(
            "Alerts",
            {"": 'count(ALERTS{alertname=~"RecJPQ.*", alertstate="firing"}) or vector(0)'},
            4,
            "stat",
            defaults=BAD_IF_ANY,
            height=4,
        ),
        Panel(
            "Requests by route",
            {"{{method}} {{route}}": rate("recjpq_requests_total", SERVED, by="method, route")},
            12,
            unit="reqps",
            defaults=STACKED,
        ),
        Panel(
            "Requests by status",
            {"{{status}}": rate("recjpq_requests_total", SERVED, by="status") + " > 0"},
            12,
            unit="reqps",
            defaults=STACKED,
        ),
    ],
    "How fast?": [
        Panel(
            "Recommendations, by duration",
            {"{{le}}": rate("recjpq_request_duration_seconds_bucket", RECOMMEND, by="le")},
            12,
            "heatmap",
            "s",
            "From the request's head to the end of its answer.",
        ),
        Panel(
            "Recommendations, percentiles",
            {
                f"p{100 * q:g}": quantile(q, "recjpq_request_duration_seconds", RECOMMEND)
                for q in (0.5, 0.9, 0.99)
            },
            12,
            unit="s",
        ),
    ],
    "By what?": [
        Panel(
            "Strategy",
            {
                "{{strategy}} ({{variant}})": rate("recjpq_recommendations_total", by="strategy, variant")
                + " > 0"
            },
            8,
            unit="percentunit",
            about="Who made the recommendations: a model, or popularity for histories without a known item.",
            defaults=SHARES,
        ),
        Panel(
            "Without the stored history",
            {"{{reason}}": rate("recjpq_degraded_total", by="reason")},
            8,
            unit="ops",
            about="Recommendations that had to do without something, and said so.",
        ),
        Panel(
            "Events and unknown items",
            {
                "{{result}}": rate("recjpq_events_total", by="result"),
                "unknown in {{source}}": rate("recjpq_unknown_items_total", by="source"),
            },
            8,
            unit="ops",
        ),
    ],
    "What is slow?": [
        Panel(
            "Stages, median",
            {"{{stage}}": quantile(0.5, "recjpq_stage_duration_seconds", by="stage")},
            8,
            unit="s",
        ),
        Panel(
            "Stages, p99",
            {"{{stage}}": quantile(0.99, "recjpq_stage_duration_seconds", by="stage")},
            8,
            unit="s",
        ),
        Panel(
            "Waiting",
            {
                "in progress": 'sum(recjpq_requests_in_progress{job="$job"})',
                "queue": 'sum(recjpq_queue_depth{job="$job"})',
                "histories in a batch": (
                    f"{rate('recjpq_batch_size_sum')} / ({rate('recjpq_batch_size_count')} > 0)"
                ),
            },
            8,
        ),
    ],
    "What is failing?": [
        Panel(
            "Refused, by reason",
            {"{{reason}}": rate("recjpq_rejections_total", by="reason") + " > 0"},
            12,
            unit="reqps",
        ),
        Panel(
            "5xx, by route",
            {"{{status}} {{route}}": rate("recjpq_requests_total", FAILED, by="route, status") + " > 0"},
            12,
            unit="reqps",
        ),
        Panel(
            "Store up",
            {"": 'min(recjpq_store_up{job="$job"})'},
            4,
            "stat",
            about="Whether the last call of the store succeeded, on every instance.",
            defaults=GOOD_IF_UP,
        ),
        Panel(
            "Store, failed calls",
            {"{{operation}}": rate("recjpq_store_errors_total", by="operation")},
            10,
            unit="ops",
        ),
        Panel(
            "Store, p99",
            {"{{operation}}": quantile(0.99, "recjpq_store_operation_duration_seconds", by="operation")},
            10,
            unit="s",
        ),
    ],
    "Which model?": [
        Panel(
            "Served",
            {"": f'max by ({MODEL}) (recjpq_model_info{{job="$job"}})'},
            12,
            "table",
        ),
        Panel("Items", {"": 'max(recjpq_model_items{job="$job"})'}, 6, "stat", height=8),
        Panel(
            "Loaded",
            {"": 'time() - max(recjpq_model_loaded_timestamp_seconds{job="$job"})'},
            6,
            "stat",
            "s",
            "How long ago.",
        ),
        Panel(
            "Model changes, by result",
            {
                "{{result}}": 'sum by (result) (increase(recjpq_model_reloads_total{job="$job"}'
                "[$__rate_interval]))"
            },
            8,
            about="Both results are there from a process' start on, so that the first change is seen too.",
        ),
        # The two that follow are states: a new instance's counters begin at what it has done before it was
        # first scraped, which a rate never shows.
        Panel(
            "Age of the model, by instance",
            {
                "{{instance}}": (
                    'time() - max by (instance) (recjpq_model_loaded_timestamp_seconds{job="$job"})'
                )
            },
            8,
            unit="s",
            about="Falls to 0 with each start of an instance, and with each change of its model.",
        ),
        Panel(
            "Workers started again, by instance",
            {
                "{{instance}}": 'sum by (instance) (recjpq_worker_starts_total{job="$job"})'
                ' - sum by (instance) (recjpq_workers{job="$job"})'
            },
            8,
            about="Since the instance was started.",
        ),
    ],
}
