"""Latency over catalogue size, as a picture."""

from pathlib import Path
from typing import Any

from benchmarks.methods import LABELS

PANELS = {"random tables": ("gaussian",), "trained model": ("trained", "resampled")}
MARKERS = "osD^vPX*"
STYLES = {"warm": "-", "cold": ":"}


def plot(results: dict[str, Any], path: Path) -> None:
    """Write the median over N, a panel per kind of catalogue; the suffix gives the format."""
    import matplotlib as mpl  # noqa: PLC0415  # only this needs it

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    k = results["latency"][0]["k"]
    trained = [entry["name"] for entry in results["workloads"] if entry["kind"] == "trained"]
    # A line is one model's catalogue as it grows; further models stand in the tables.
    kinds = {
        entry["name"]: (entry["kind"], entry["items"])
        for entry in results["workloads"]
        if entry["name"] not in trained[1:]
    }
    panels = {title: members for title, members in PANELS.items()
              if any(kind in members for kind, _ in kinds.values())}  # fmt: skip
    # A fixed salt and no date: the same results give the same bytes.
    with mpl.rc_context({"svg.hashsalt": "recjpq", "svg.fonttype": "none", "font.size": 9,
                         "axes.spines.top": False, "axes.spines.right": False}):  # fmt: skip
        figure, axes = plt.subplots(
            1, len(panels), figsize=(4.6 * len(panels), 4.2), sharey=True, squeeze=False, layout="constrained"
        )
        for axis, (title, members) in zip(axes[0], panels.items(), strict=True):
            rows = [row for row in results["latency"] if row["k"] == k and row["workload"] in kinds]
            _draw(axis, rows, kinds, members)
            axis.set(xscale="log", yscale="log", xlabel="items in the catalogue", title=title)
            axis.grid(alpha=0.3)
        axes[0][0].set_ylabel("median ms (dotted: cold caches)")
        figure.suptitle(f"Exact top {k}, one query at a time on one core")
        handles = {
            label: line
            for axis in axes[0]
            for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=3, frameon=False
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
        plt.close(figure)


def _draw(
    axis: Any, rows: list[dict[str, Any]], kinds: dict[str, tuple[str, int]], members: tuple[str, ...]
) -> None:
    for number, (name, label) in enumerate(LABELS.items()):
        for caches, style in STYLES.items():
            points = sorted(
                (kinds[row["workload"]][1], row["p50_ms"])
                for row in rows
                if (row["method"], row["caches"]) == (name, caches) and kinds[row["workload"]][0] in members
            )
            axis.plot(
                [size for size, _ in points],
                [median for _, median in points],
                color="black" if name == "cpu" else f"C{number}",
                marker=MARKERS[number],
                markersize=4,
                linestyle=style,
                linewidth=2.2 if name == "cpu" else 1.1,
                label=label if points and caches == "warm" else None,
            )
