"""The command line: `recjpq-train VERB --config FILE`, or `python -m training`."""

import argparse
import fcntl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recjpq.errors import RecJPQError
from training.config import load_config
from training.distributed import joined_group, processes, rank
from training.errors import ConfigError, StageError, TrainingError
from training.movielens import download_ml_100k
from training.report_text import format_report
from training.run import Run
from training.tracking import check_tracking
from training.train import Interrupted
from training.triton import write_triton_repository

VERBS = {
    "prepare": "interaction log -> dataset/: memory-mapped sequences, item vocabulary, metadata",
    "codes": "dataset/ -> codes/: every item split into M one-byte codes",
    "train": "dataset/, codes/ -> checkpoints/; resumes where it was interrupted",
    "evaluate": "checkpoints/ -> report.json, report.html: full ranking of the test cases, beside baselines",
    "export": "checkpoints/, report.json -> artifacts/<version>, checked, ready to serve",
    "assign": "checkpoints/, items that training did not see -> new_items.parquet: their codes",
    "all": "every stage in this order; a stage whose output is up to date is not repeated",
}

WRITERS = {"prepare", "codes", "train", "all"}
"""Verbs that two commands must not run in one directory at once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, 2 for an error of the user's, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        if options.verb != "train" and processes() > 1:
            raise ConfigError(
                f"found {processes()} processes (WORLD_SIZE), expected one: only `train` runs under torchrun"
            )
        options.action(options)
    except (TrainingError, RecJPQError) as error:
        _say(f"recjpq-train {options.verb}: {error}", error=True)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"recjpq-train {options.verb}: {where}{error.strerror or error}", error=True)
        return 2
    except (Interrupted, KeyboardInterrupt):
        if rank() == 0:
            without = " without --restart" if getattr(options, "restart", False) else ""
            _say(f"interrupted; the same command{without} goes on from the last checkpoint", error=True)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recjpq-train", description="Interaction log -> RecJPQ model -> artifact."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, description in VERBS.items():
        sub = verbs.add_parser(verb, help=description, description=description)
        sub.add_argument("--config", type=Path, required=True, help="TOML file; see docs/training.md")
        sub.add_argument(
            "--set",
            dest="overrides",
            metavar="SECTION.KEY=VALUE",
            action="append",
            default=[],
            help="replace one value of the file; may be repeated",
        )
        if verb in {"train", "all"}:
            sub.add_argument("--restart", action="store_true", help="discard the checkpoints and start again")
        if verb in {"export", "all"}:
            sub.add_argument("--version", help="the artifact's version (default: the UTC time)")
            sub.add_argument(
                "--force", action="store_true", help="export also a model that does not beat popularity"
            )
        if verb == "assign":
            sub.add_argument(
                "--items", type=Path, required=True, help="a later log, or pairs of similar items"
            )
            sub.add_argument("--output", type=Path, help="default: new_items.parquet in run.directory")
        sub.set_defaults(action=_assign if verb == "assign" else _run_verb)
    triton = verbs.add_parser(
        "triton", help="artifact -> a version in a model repository of Triton Inference Server"
    )
    triton.add_argument("artifact", type=Path, help="an artifact, or a directory of them: the newest")
    triton.add_argument("repository", type=Path, help="the model repository; made if need be")
    triton.set_defaults(action=_triton)
    download = verbs.add_parser("download", help="fetch MovieLens-100K for the demo")
    download.add_argument("directory", type=Path, help="where interactions.csv and items.csv go")
    download.set_defaults(action=lambda options: download_ml_100k(options.directory, _say))
    return parser


def _run_verb(options: argparse.Namespace) -> None:
    config = load_config(options.config, options.overrides)
    if options.verb in {"train", "all"}:
        check_tracking(config)
    with (
        joined_group() as group,
        _alone(config.run.directory, needed=group.leads and options.verb in WRITERS),
    ):
        _run_stages(Run(config, group), options)


@contextmanager
def _alone(directory: Path, *, needed: bool) -> Iterator[None]:
    """Keep another command from making the same stages meanwhile; the end of the process, any, frees it."""
    if not needed:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(
                f"{directory}: another recjpq-train is at work here; wait until it ends, or set another "
                "run.directory"
            ) from error
        yield


def _run_stages(run: Run, options: argparse.Namespace) -> None:
    verbs: dict[str, Callable[[], str]] = {
        "prepare": lambda: _prepare(run),
        "codes": lambda: _codes(run),
        "train": lambda: _train(run, restart=options.restart),
        "evaluate": lambda: format_report(run.evaluate()),
        "export": lambda: _export(run, options),
    }
    for verb in verbs if options.verb == "all" else [options.verb]:
        if run.group.leads:
            _say(f"== {verb}")
        result = verbs[verb]()
        if run.group.leads:
            _say(result)


def _assign(options: argparse.Namespace) -> None:
    run = Run(load_config(options.config, options.overrides))
    output = options.output or run.config.run.directory / "new_items.parquet"
    new_items = run.assign(options.items)
    new_items.write(output)
    _say(f"{len(new_items.item_ids)} new items: {output}")


def _triton(options: argparse.Namespace) -> None:
    _say(f"version: {write_triton_repository(options.artifact, options.repository)}")


def _prepare(run: Run) -> str:
    dataset = run.prepare()
    summary = dataset.summary
    for warning in summary["warnings"]:
        _say(f"warning: {warning}", error=True)
    return (
        f"{summary['users']} users, {summary['items']} items, {summary['interactions']} interactions, "
        f"{summary['mean_length']} a user"
    )


def _codes(run: Run) -> str:
    summary = run.codes().summary
    return f"{summary['method']}: {summary['items']} items, {summary['distinct_codes']} distinct codes"


def _train(run: Run, *, restart: bool) -> str:
    progress = run.train(restart=restart)
    kept = run.config.train.select
    return f"{kept} validation NDCG@10 {progress.best_ndcg:.4f}, at epoch {progress.best_epoch}"


def _export(run: Run, options: argparse.Namespace) -> str:
    if options.verb == "all" and run.config.model.item_embedding == "full":
        return "no artifact: a full item table is only to compare with"
    if options.verb == "all" and options.version is None and (path := run.exported()):
        return f"artifact: {path}, up to date"
    return f"artifact: {run.export(options.version, force=options.force)}"


def _say(text: str, *, error: bool = False) -> None:
    print(text, file=sys.stderr if error else sys.stdout, flush=True)


if __name__ == "__main__":
    sys.exit(main())
