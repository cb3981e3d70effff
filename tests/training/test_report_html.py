"""The page: well-formed, about this run, and in need of nothing else."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from training.report_html import render_report
from training.report_svg import Curve, line_chart, nice_ticks, tick_names
from training.run import Run


@pytest.fixture(scope="module")
def report(trained: Run) -> dict[str, Any]:
    return trained.evaluate()


@pytest.fixture(scope="module")
def page(trained: Run, report: dict[str, Any]) -> str:
    return (trained.config.run.directory / "report.html").read_text(encoding="utf-8")


def _text(page: str) -> str:
    return " ".join("".join(ET.fromstring(page).itertext()).split())


def test_it_parses_and_refers_to_nothing_outside(page: str) -> None:
    tags = {element.tag for element in ET.fromstring(page).iter()}
    assert {"table", "svg", "polyline", "style"} <= tags
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "image", "use"}
    assert not re.search(r"https?:|url\(|@import|\b(src|href|xlink)\b", page)


def test_it_says_what_was_measured(page: str, report: dict[str, Any]) -> None:
    text = _text(page)
    low, high = report["intervals"]["model"]["ndcg@10"]
    for part in (
        "cyclic", f"{report['model']['ndcg@10']:.4f}", f"{low:.4f} to {high:.4f}", "item transitions",
        "leave-one-out: each user's last interaction is the test item", "Training loss", "Validation NDCG@10",
        "by length of the history", "Coverage and popularity bias", 'loss = "softmax"', report["weights"],
    ):  # fmt: skip
        assert part in text


@pytest.mark.parametrize(
    ("select", "said"), [("best", "epoch 12, the best of 12"), ("last", "epoch 12, the last of 12")]
)
def test_it_says_which_epoch_s_weights_were_measured(report: dict[str, Any], select: str, said: str) -> None:
    train = report["config"]["train"] | {"select": select}
    page = render_report(report | {"config": report["config"] | {"train": train}, "best_epoch": 12})
    assert said in _text(page)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.01, 0.02), "and is better than"),
        ((-0.02, -0.01), "but is worse than"),
        ((-1, 1), "cannot be told apart"),
    ],
)
def test_the_verdict_follows_the_interval(
    report: dict[str, Any], ends: tuple[float, float], said: str
) -> None:
    difference = report["difference"] | {"intervals": report["difference"]["intervals"] | {"ndcg@10": ends}}
    assert said in _text(render_report(report | {"difference": difference}))


def test_names_are_escaped(report: dict[str, Any]) -> None:
    page = render_report(report | {"name": "<b>&</b>"})
    assert "<b>&</b>: evaluation" in _text(page)


def test_a_run_of_one_epoch_and_one_case_can_be_drawn() -> None:
    chart = ET.fromstring(line_chart([Curve("x", "model", [1], [0.0])], title="t", x_label="epoch", mark=1))
    assert [element.tag for element in chart.iter("circle")] == ["circle"]


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (0.0, 0.093, ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]),
        (5.7, 7.4, ["5.5", "6.0", "6.5", "7.0", "7.5"]),
        (0.0, 0.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (3.0, 40.0, ["0", "10", "20", "30", "40"]),
    ],
)
def test_ticks_enclose_what_is_drawn(low: float, high: float, names: list[str]) -> None:
    assert tick_names(nice_ticks(low, high)) == names
