"""The report of `evaluate` for a terminal."""

from typing import Any

from training.baselines import BASELINES


def format_report(report: dict[str, Any]) -> str:
    """Return the protocol, every metric beside the baselines, and how sure the difference is."""
    lines = [f"  {name.replace('_', ' ')}: {value}" for name, value in report["protocol"].items()]
    rows = [f"  {'':<12}{'model':>10}{'95% interval':>20}" + "".join(f"{name:>12}" for name in BASELINES)]
    for name, value in report["model"].items():
        low, high = report["intervals"]["model"][name]
        others = "".join(f"{report[baseline][name]:>12.4f}" for baseline in BASELINES)
        rows.append(f"  {name:<12}{value:>10.4f}{f'{low:.4f} to {high:.4f}':>20}{others}")
    difference, metric = report["difference"], report["headline"]
    low, high = difference["intervals"][metric]
    rows.append(
        f"  {metric} less that of {difference['model_minus']}: {difference['means'][metric]:+.4f}, "
        f"95% interval {low:+.4f} to {high:+.4f}"
    )
    return "\n".join(["protocol", *lines, "metrics", *rows])
