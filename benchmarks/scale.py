"""Wall time and peak memory of `prepare` and `codes`, each in a process of its own.

    python -m benchmarks.scale                             # 5 million items, 100 million interactions
    python -m benchmarks.scale --log LOG.parquet --dim 128 # a log of yours

The made-up log and everything made from it is deleted in the end; `--keep` leaves it for another call.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, today, versions
from benchmarks.synthetic_log import LogSizes

METHODS = ("random", "svd", "pq", "bpr")


def main() -> int:
    """Measure every stage, print a line each, write JSON; returns 1 if a stage fails."""
    options = _options()
    shutil.rmtree(options.directory / "run", ignore_errors=True)
    options.directory.mkdir(parents=True, exist_ok=True)
    results = []
    try:
        if options.log is None:
            log = options.directory / "log.parquet"
            arguments = [
                f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
                for name, value in asdict(LogSizes.of(options)).items()
                if value is not False
            ]
            if not log.exists():
                results.append(_measure("generate", "benchmarks.synthetic_log", str(log), *arguments))
        else:
            log = options.log
        config = _write_config(options, log)
        results.append(_measure("prepare", "training", "prepare", "--config", str(config)))
        results.extend(
            _measure(f"codes {method}", "training", "codes", "--config", str(config),
                     "--set", f"codes.method={method}")
            for method in options.methods
        )  # fmt: skip
    finally:
        shutil.rmtree(options.directory / "run", ignore_errors=True)
        if options.log is None and not options.keep:
            (options.directory / "log.parquet").unlink(missing_ok=True)
    report = {
        "date": today(),
        "machine": machine(),
        "versions": versions(),
        "synthetic_log": asdict(LogSizes.of(options)) if options.log is None else None,
        "dim": options.dim,
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {options.output}")
    return 0 if all(result["exit_status"] == 0 for result in results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, help="a log to measure in place of a made-up one")
    parser.add_argument("--time-column", help="of that log")
    parser.add_argument("--methods", nargs="*", choices=(*METHODS, "qr"), default=METHODS)
    parser.add_argument("--dim", type=int, default=128, help="D, which pq quantises")
    parser.add_argument("--directory", type=Path, default=Path("runs/scale"))
    parser.add_argument("--keep", action="store_true", help="leave the made-up log")
    parser.add_argument("--output", type=Path, default=Path("runs/bench/scale.json"))
    LogSizes.add_arguments(parser)
    return parser.parse_args()


def _write_config(options: argparse.Namespace, log: Path) -> Path:
    time_column = options.time_column if options.log is not None else "time"
    path: Path = options.directory / "scale.toml"
    path.write_text(
        f'[run]\ndirectory = "{options.directory / "run"}"\nname = "scale"\n'
        f'[data]\ninteractions = "{log}"\n'
        + (f'time_column = "{time_column}"\n' if time_column else "")
        + f"[model]\ndim = {options.dim}\n"
    )
    return path


def _measure(name: str, *module: str) -> dict[str, Any]:
    """Run a module in a fresh process; return its wall and processor time and its peak resident memory."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", *module], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    kibibytes = usage.ru_maxrss if sys.platform != "darwin" else usage.ru_maxrss // 1024
    result = {
        "stage": name,
        "exit_status": child.returncode,
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_rss_gib": round(kibibytes / 2**20, 2),
    }
    print(
        "{stage}: {wall_s} s, {cpu_s} s of processors, peak {peak_rss_gib} GiB".format_map(result), flush=True
    )
    return result


if __name__ == "__main__":
    sys.exit(main())
