"""`report.html`: the report of `evaluate` as one page that needs nothing else, not even JavaScript."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from training.baselines import BASELINES, MARKOV_ITEMS
from training.report_svg import Curve, line_chart

LABELS = {"model": "model", "popularity": "popularity", "markov": "item transitions"}
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

EXPOSURE = {
    "coverage": ("of all items recommended to anyone", "{:.1%}"),
    "coverage_trained": ("of the items seen in training", "{:.1%}"),
    "average_popularity": ("mean training interactions of an item (ARP)", "{:,.0f}"),
    "popularity_percentile": ("mean popularity percentile of an item", "{:.1f}"),
    "top_items_share": ("share of the most popular 1% of items", "{:.1%}"),
    "gini": ("Gini coefficient over items", "{:.3f}"),
}


def render_report(report: Mapping[str, Any]) -> str:
    """Return the page, well-formed as XML too; `report` is what `evaluate` writes as JSON."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    name = escape(report["name"])
    body = "".join([
        _header(report), _protocol(report), _metrics(report), _training(report), _breakdowns(report),
        _exposure(report), _configuration(report),
    ])  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{name}: evaluation</title><style>\n{style}</style></head><body>{body}</body></html>\n"
    )


def _header(report: Mapping[str, Any]) -> str:
    metric = report["headline"]
    cards = "".join(
        f'<div class="card {who}"><span class="kicker">{LABELS[who]}</span>'
        f"<b>{report[who][metric]:.4f}</b>"
        f'<span class="note">{_interval(report["intervals"][who][metric])}</span></div>'
        for who in ("model", *BASELINES)
    )
    return (
        f'<header><p class="kicker">Evaluation</p><h1>{escape(report["name"])}</h1>'
        f'<p class="verdict">{_verdict(report)}</p></header><p class="kicker">{_metric_name(metric)} on '
        f"{report['protocol']['cases']:,} test cases, with 95% confidence intervals</p>"
        f'<div class="cards">{cards}</div>'
    )


def _verdict(report: Mapping[str, Any]) -> str:
    metric, difference = report["headline"], report["difference"]
    ahead = report["model"][metric] > report["popularity"][metric]
    low, high = difference["intervals"][metric]
    against = LABELS[difference["model_minus"]]
    if low > 0:
        relation = f"and is better than the best baseline, {against}"
    elif high < 0:
        relation = f"{'but' if ahead else 'and'} is worse than the best baseline, {against}"
    else:
        relation = f"and cannot be told apart from the best baseline, {against}"
    return (
        f"The model {'beats' if ahead else 'does not beat'} popularity, {relation}: "
        f"{_signed(difference['means'][metric])} {_metric_name(metric)} "
        f"({_signed(low)} to {_signed(high)}, the same cases paired)."
    )


def _protocol(report: Mapping[str, Any]) -> str:
    protocol, data = report["protocol"], report["data"]
    rows = [
        ("data", f"{data['source']}: {data['users']:,} users, {data['items']:,} items, "
                 f"{data['interactions']:,} interactions"),
        *((name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
          for name, value in protocol.items() if name != "users"),
        ("baselines", "popularity: by training interactions. Item transitions: by the probability of coming "
                      f"next after each of the last {MARKOV_ITEMS} items in training, halved with every step "
                      "back; then by popularity"),
        ("intervals",
         f"95%, percentile bootstrap over cases, {report['bootstrap']['resamples']:,} resamples"),
    ]  # fmt: skip
    return "<h2>Protocol</h2>" + _definitions(rows)


def _metrics(report: Mapping[str, Any]) -> str:
    best = report["difference"]["model_minus"]
    heads = [
        "", "model", "95% interval", *(LABELS[who] for who in BASELINES), f"model {MINUS} {LABELS[best]}",
        "95% interval",
    ]  # fmt: skip
    rows: list[str] = []
    for metric, value in report["model"].items():
        kind = "headline" if metric == report["headline"] else ""
        start = "group" if metric.startswith("ndcg") and rows else ""
        cells = [
            f'<td class="model">{value:.4f}</td>',
            _small(_interval(report["intervals"]["model"][metric])),
            *(f"<td>{report[who][metric]:.4f}</td>" for who in BASELINES),
            f"<td>{_signed(report['difference']['means'][metric])}</td>",
            _small(" to ".join(_signed(end) for end in report["difference"]["intervals"][metric])),
        ]
        rows.append(f'<tr class="{kind} {start}"><th>{_metric_name(metric)}</th>{"".join(cells)}</tr>')
    return "<h2>Metrics</h2>" + _table(heads, rows)


def _training(report: Mapping[str, Any]) -> str:
    history = report["history"]
    names = {"loss": "Training loss", "ndcg@10": "Validation NDCG@10"}
    charts = []
    for key, name in names.items():
        entries = [entry for entry in history if key in entry]
        if entries:
            xs, ys = [entry["epoch"] for entry in entries], [entry[key] for entry in entries]
            curve = Curve(name, "model", xs, ys)
            chart = line_chart([curve], title=f"{name} by epoch", x_label="epoch",
                               from_zero=key != "loss", mark=report["best_epoch"])  # fmt: skip
            charts.append(_figure(name, "by epoch", chart))
    which = "the last" if report["config"]["train"]["select"] == "last" else "the best"
    return (
        f'<h2>Training</h2><p class="note">Measured weights: epoch {report["best_epoch"]}, {which} of '
        f"{len(history)} on {report['protocol']['validation_users']:,} validation users (dotted line).</p>"
        f'<div class="charts">{"".join(charts)}</div>'
    )


def _breakdowns(report: Mapping[str, Any]) -> str:
    metric = report["headline"]
    kinds = {
        "by_target_popularity": "by training interactions of the target (0: cold)",
        "by_history_length": "by length of the history",
    }
    figures, tables = [], []
    for key, what in kinds.items():
        rows = report[key]
        names = [(_short(row["from"]), _share(row["cases"], report["protocol"]["cases"])) for row in rows]
        curves = [
            Curve(LABELS[who], who, range(len(rows)), [row[who][metric] for row in rows])
            for who in (*reversed(BASELINES), "model")
        ]
        chart = line_chart(curves, title=f"{_metric_name(metric)} {what}", x_label=what, x_names=names)
        figures.append(_figure(_metric_name(metric), what, chart))
        tables.append(_band_table(rows, metric, what))
    legend = "".join(f'<li class="{who}">{LABELS[who]}</li>' for who in ("model", *BASELINES))
    return (
        f'<h2>Where it comes from</h2><ul class="legend">{legend}</ul>'
        f'<div class="charts">{"".join(figures)}</div>'
        '<p class="note">Each point is a band that starts at the number below it; the second line is its '
        f"share of the cases.</p><details><summary>The same as tables</summary>{''.join(tables)}</details>"
    )


def _band_table(rows: Sequence[Mapping[str, Any]], metric: str, what: str) -> str:
    body = [
        f"<tr><th>{_band(row)}</th><td>{row['cases']:,}</td>"
        + "".join(f"<td>{row[who][metric]:.4f}</td>" for who in ("model", *BASELINES))
        + "</tr>"
        for row in rows
    ]
    heads = ["", "cases", *(LABELS[who] for who in ("model", *BASELINES))]
    return f'<p class="note">{_metric_name(metric)} {what}</p>' + _table(heads, body)


def _exposure(report: Mapping[str, Any]) -> str:
    exposure = report["exposure"]
    columns = ("model", *BASELINES, "histories")
    body = []
    for key, (what, form) in EXPOSURE.items():
        cells = (form.format(exposure[who][key]) if key in exposure[who] else "" for who in columns)
        body.append(f"<tr><th>{what}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    heads = ["", *(LABELS[who] for who in ("model", *BASELINES)), "users' histories"]
    return (
        f"<h2>Coverage and popularity bias</h2><p>Of the {exposure['model']['length']} best items of every "
        "test case. A recommender whose items are more popular than those of the users' histories pulls "
        f"towards what is popular already.</p>{_table(heads, body)}"
    )


def _configuration(report: Mapping[str, Any]) -> str:
    sections = "\n\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in section.items())
        for name, section in report["config"].items()
    )
    return (
        f"<h2>Configuration</h2><pre>{escape(sections)}</pre>"
        f"<footer>Weights {escape(report['weights'])}. The same numbers, and more, are in report.json; the "
        "rank of every test case in ranks.npz.</footer>"
    )


def _figure(title: str, what: str, chart: str) -> str:
    return f"<figure><figcaption><b>{title}</b> {what}</figcaption>{chart}</figure>"


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _definitions(rows: Sequence[tuple[str, str]]) -> str:
    lines = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f"<dl>{''.join(lines)}</dl>"


def _metric_name(metric: str) -> str:
    kind, _, k = metric.partition("@")
    return f"{'Recall' if kind == 'recall' else kind.upper()}@{k}"


def _interval(ends: Sequence[float]) -> str:
    return f"{ends[0]:.4f} to {ends[1]:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", MINUS)


def _small(text: str) -> str:
    return f"<td><small>{text}</small></td>"


def _band(row: Mapping[str, Any]) -> str:
    if row["to"] is None:
        return f"{row['from']:,} or more"
    return f"{row['from']:,}" if row["to"] == row["from"] else f"{row['from']:,}{DASH}{row['to']:,}"


def _short(number: int) -> str:
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number // size}{letter}"
    return str(number)


def _share(part: int, whole: int) -> str:
    return "<1%" if part * 100 < whole else f"{part / whole:.0%}"
