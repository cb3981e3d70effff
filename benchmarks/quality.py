"""Quality on MovieLens-1M: every backbone with every way to split items, and with a full item table.

    python -m benchmarks.quality ml-1m.parquet                                # everything: a day of one core
    python -m benchmarks.quality ml-1m.parquet --rows sasrec-svd gru4rec-full --seeds 42 43 44

A row is one `recjpq-train all` with a configuration of training/configs/, in a directory of its own; the
command is printed before it starts. A finished row is not trained again and a killed one goes on where it
was, so the table, which has what is finished, can be made in several sittings. `--docs` writes it into
docs/training.md, where a row stays as it is until it is measured again.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, today, versions
from benchmarks.report import renew
from training.config import Config, load_config

CONFIGS = Path("training/configs")
BACKBONES = {"sasrec": ("SASRec", "ml-1m"), "bert4rec": ("BERT4Rec", "ml-1m-bert4rec-svd"),
             "gru4rec": ("GRU4Rec", "ml-1m-gru4rec-svd")}  # fmt: skip
CODES = {
    "svd": "SVD",
    "graph": "communities",
    "bpr": "BPR",
    "pq": "product quantisation",
    "random": "random",
    "full": "none: a full table",
}
ROWS = [f"{backbone}-{codes}" for backbone in BACKBONES for codes in CODES]
BEGIN, END = "<!-- quality:begin -->", "<!-- quality:end -->"
MEASURED = "measured.json"
WHAT_COUNTS = {"split", "codes", "model", "train", "evaluation"}
"""Sections of a configuration that change what a row shows."""

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One row with one seed; `settings` are further ones of its run."""

    row: str
    seed: int
    runs: Path
    log: Path
    settings: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """Where its run is."""
        return self.runs / f"{self.row}-{self.seed}"

    @property
    def config(self) -> Path:
        """The configuration that it begins from."""
        backbone, codes = self.row.split("-")
        return CONFIGS / f"{f'ml-1m-{backbone}-full' if codes == 'full' else BACKBONES[backbone][1]}.toml"

    @property
    def overrides(self) -> list[str]:
        """What it sets besides."""
        codes = self.row.split("-")[1]
        values = {"data.interactions": self.log, "run.directory": self.directory, "run.seed": self.seed}
        if codes != "full":
            values |= {"run.name": f"ml-1m-{self.row}", "codes.method": codes}
        return [*(f"{key}={value}" for key, value in values.items()), *self.settings]

    @property
    def command(self) -> list[str]:
        """What trains, measures and exports it."""
        sets = [word for override in self.overrides for word in ("--set", override)]
        return [sys.executable, "-m", "training", "all", "--config", str(self.config), *sets]

    def make(self) -> bool:
        """Run the command, unless it is done already; return whether it is done now."""
        if (self.directory / MEASURED).exists():
            return self.read() is not None
        print("$", shlex.join(["recjpq-train", *self.command[3:]]), flush=True)
        if subprocess.run(self.command, check=False).returncode:
            return False
        measured = {"date": today(), "machine": machine(), "versions": versions()}
        (self.directory / MEASURED).write_text(json.dumps(measured) + "\n")
        return True

    def read(self) -> Report | None:
        """Return its report, and where and when it was measured; None, and say so, if made otherwise."""
        files = (self.directory / "report.json", self.directory / MEASURED)
        report = {key: value for file in files for key, value in json.loads(file.read_text()).items()}
        made, wanted = Config.model_validate(report["config"]), load_config(self.config, self.overrides)
        if made.model_dump(include=WHAT_COUNTS) == wanted.model_dump(include=WHAT_COUNTS):
            return report
        print(f"{self.directory}: made with other settings; delete it to make it again", file=sys.stderr)
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing and print the table; returns 1 if a row fails."""
    options = _options(arguments)
    case = partial(Case, runs=options.runs, log=options.log, settings=tuple(options.set))
    wanted = [] if options.table else [case(row, seed) for row in options.rows for seed in options.seeds]
    failed = [each for each in wanted if not each.make()]
    for each in failed:
        print(f"{each.row}, seed {each.seed}: failed, see above", file=sys.stderr)
    finished = {row: [case(row, seed) for seed in _seeds(options.runs, row)] for row in ROWS}
    reports = {row: [each.read() for each in cases] for row, cases in finished.items()}
    done = {row: [each for each in found if each] for row, found in reports.items()}
    lines = {row: _line(row, found) for row, found in done.items() if found}
    print(_table(lines))
    if options.docs:
        renew(options.docs, BEGIN, END, _table(_rows(options.docs) | lines))
    return 1 if failed else 0


def _table(lines: dict[str, str]) -> str:
    """Return Markdown of rows: means over the seeds, each seed's figure, sizes, when and where."""
    names = ("", "codes", "NDCG@10", "each seed", "95% interval", "Recall@10", "bytes served", "of items",
             "minutes", "measured")  # fmt: skip
    head, rule = f"| {' | '.join(names)} |", "|---|---|---:|---|---|---:|---:|---:|---:|---|"
    return "\n".join([head, rule, *(lines[row] for row in ROWS if row in lines)])


def _rows(docs: Path) -> dict[str, str]:
    """Return the rows of a file's table."""
    names = {(BACKBONES[row.split("-")[0]][0], CODES[row.split("-")[1]]): row for row in ROWS}
    table = docs.read_text().partition(BEGIN)[2].partition(END)[0]
    cells = [(line, [cell.strip() for cell in line.split("|")]) for line in table.splitlines() if "|" in line]
    return {names[name]: line for line, (_, *first, _) in cells if (name := tuple(first[:2])) in names}


def _line(row: str, reports: list[Report]) -> str:
    backbone, codes = row.split("-")
    ndcg, recall = ([report["model"][name] for report in reports] for name in ("ndcg@10", "recall@10"))
    first = reports[0]
    low, high = first["intervals"]["model"]["ndcg@10"]
    seconds = [sum(epoch["seconds"] for epoch in report["history"]) for report in reports]
    seeds = [f"{report['config']['run']['seed']}: {_share(report['model']['ndcg@10'])}" for report in reports]
    sizes = first["bytes"]
    cells = (
        BACKBONES[backbone][0],
        CODES[codes],
        _share(statistics.mean(ndcg)),
        ", ".join(seeds),
        f"{_share(low)} to {_share(high)}",
        _share(statistics.mean(recall)),
        f"{sizes['served']:,}",
        f"{sizes['item_weights'] + sizes['item_codes']:,}",
        f"{statistics.median(seconds) / 60:.0f}",
        f"{first['date']}, {first['machine']['cpu']}",
    )
    return "| " + " | ".join(cells) + " |"


def _share(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _seeds(runs: Path, row: str) -> list[int]:
    """Return the seeds with which a row is finished."""
    return sorted(int(path.parent.name.removeprefix(f"{row}-")) for path in runs.glob(f"{row}-*/{MEASURED}"))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "log", type=Path, help="the 3,416-item file: user_id, item_id, position (see ml-1m.toml)"
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42], metavar="SEED")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another setting of the runs"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"), help="where the runs are kept")
    parser.add_argument("--table", action="store_true", help="train nothing: the table of what is finished")
    parser.add_argument(
        "--docs", type=Path, nargs="?", const=Path("docs/training.md"), help="write the table there"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
