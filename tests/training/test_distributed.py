"""Several processes train what one trains, stop and resume together, and none waits for a dead one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.__main__ import main
from training.batches import TrainingSequences
from training.checkpoint import Progress
from training.config import Config
from training.distributed import ALONE, _buckets
from training.run import Run

MakeConfig = Callable[..., Config]
WriteConfig = Callable[[Config], Path]

SIGNALLED = """
import os, signal, sys
from training import distributed, train
from training.__main__ import main

distributed.BUCKET_NUMBERS = 100  # many buckets
make_loss = train.make_loss
number, at = int(sys.argv.pop(1)), 5

def signalling(*arguments):
    loss, calls = make_loss(*arguments), iter(range(1, 1000))
    def compute(*inputs):
        if next(calls) == at and os.environ["RANK"] == "1":
            os.kill(os.getpid(), number)
        return loss(*inputs)
    return compute

train.make_loss = signalling
sys.exit(main())
"""
"""The command line, with a signal to the second process in the fifth step, the first of an epoch of four."""


def _config(make_config: MakeConfig, directory: Path, loss: str, batch_size: int, **train: object) -> Config:
    return make_config(
        run={"directory": directory},
        model={"dropout": 0.0},
        train={"loss": loss, "negatives": 16, "batch_size": batch_size, **train},
    )


def _prepared(config: Config) -> Run:
    run = Run(config)
    run.prepare()
    run.codes()
    return run


def _environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    return inherited | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | variables


def _signalled(config: Path, number: signal.Signals) -> list[tuple[int, str]]:
    """Run two processes of which the second gets a signal; return how both ended and what they said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", SIGNALLED, str(number.value), "train", "--config", str(config)]
    processes = [
        subprocess.Popen(
            command,
            env=_environment(RANK=rank, **address),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=300)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def _torchrun(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "training", "train", "--config", str(config)]
    return subprocess.run(
        command, env=_environment(), capture_output=True, text=True, timeout=300, check=False
    )


def _curve(progress: Progress) -> list[list[float]]:
    return [[entry[name] for name in ("step", "loss", "ndcg@10")] for entry in progress.history]


def _assert_same(found: Run, expected: Run) -> None:
    """Compare finished runs: sums in another order differ in the last digits."""
    curves = [_curve(run.train()) for run in (found, expected)]
    assert len(curves[1]) == 3
    for entry, wanted in zip(*curves, strict=True):
        assert entry == pytest.approx(wanted, rel=1e-4)
    for name, weight in expected._model.state_dict().items():
        if name.endswith("key_value.bias"):
            continue  # attention ignores a bias of all keys: its gradient is rounding, which Adam blows up
        torch.testing.assert_close(found._model.state_dict()[name], weight, rtol=1e-3, atol=1e-4)


def test_two_processes_train_what_one_trains(
    make_config: MakeConfig, write_config: WriteConfig, tmp_path: Path
) -> None:
    size = 59  # of 60 sequences: the second process has no row of the other batch
    alone = _prepared(_config(make_config, tmp_path / "alone", "softmax", size))
    alone.train()
    together = _prepared(
        _config(make_config, tmp_path / "together", "softmax", size, checkpoint_minutes=1e-9)
    )
    done = _torchrun(write_config(together.config))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best validation NDCG@10") == 1
    _assert_same(Run(together.config), alone)


def test_a_request_to_one_process_stops_all_and_any_number_goes_on(
    make_config: MakeConfig, write_config: WriteConfig, tmp_path: Path
) -> None:
    alone = _prepared(_config(make_config, tmp_path / "alone", "sampled_softmax", 19))
    alone.train()
    stopped = _prepared(_config(make_config, tmp_path / "stopped", "sampled_softmax", 19))
    ends = _signalled(write_config(stopped.config), signal.SIGTERM)
    assert [status for status, _ in ends] == [130, 130], ends
    assert "interrupted" in ends[0][1]
    last = torch.load(tmp_path / "stopped" / "checkpoints" / "last.pt")
    assert last["progress"]["step"] == 5
    shutil.copytree(tmp_path / "stopped", tmp_path / "one")
    done = _torchrun(write_config(stopped.config))
    assert done.returncode == 0, done.stderr
    assert "resuming at epoch 2, batch 2 of 4" in done.stdout + done.stderr
    _assert_same(Run(stopped.config), alone)
    _assert_same(Run(_config(make_config, tmp_path / "one", "sampled_softmax", 19)), alone)


def test_a_process_that_dies_stops_the_others(
    make_config: MakeConfig, write_config: WriteConfig, tmp_path: Path
) -> None:
    run = _prepared(_config(make_config, tmp_path / "dying", "softmax", 16))
    (status, said), (killed, _) = _signalled(write_config(run.config), signal.SIGKILL)
    assert (status, killed) == (2, -signal.SIGKILL)
    assert "another process of this training has stopped" in said
    last = torch.load(tmp_path / "dying" / "checkpoints" / "last.pt")
    assert last["progress"]["step"] == 4


@pytest.mark.parametrize("verb", ["prepare", "evaluate", "all"])
def test_other_verbs_refuse_to_run_several_times(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([verb, "--config", "none.toml"]) == 2
    assert "found 2 processes (WORLD_SIZE), expected one: only `train` runs" in capsys.readouterr().err


def test_a_process_without_a_rank_is_refused(
    make_config: MakeConfig,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    assert main(["train", "--config", str(write_config(make_config()))]) == 2
    assert "RANK is '', expected a number; start several processes with torchrun" in capsys.readouterr().err


def test_the_rows_of_the_processes_make_up_the_batch(make_config: MakeConfig) -> None:
    run = Run(make_config())
    run.prepare()
    sequences = TrainingSequences(run.split, 6, 59, 3)
    parts = [list(sequences.epoch(0, rows=slice(rank, None, 2))) for rank in range(2)]
    for whole, *halves in zip(sequences.epoch(0), *parts, strict=True):
        assert sum(len(half.lengths) for half in halves) == len(whole.lengths)
        assert sorted(torch.cat([half.targets for half in halves])) == sorted(whole.targets)
    assert {len(batch.targets) == 0 for batch in parts[1]} == {False, True}  # a batch of one row


def test_alone_there_is_nobody_to_ask() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    ALONE.sum_gradients([parameter])
    assert parameter.grad is None
    assert ALONE.sums(1.5, 2) == [1.5, 2]
    assert ALONE.lead("kept") == "kept"


def test_buckets_hold_every_gradient_once_and_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.distributed.BUCKET_NUMBERS", 10)
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (4, 6, 1, 50, 3)]
    buckets = [[len(p) for p in bucket] for bucket in _buckets(parameters)]
    assert buckets == [[4, 6], [1], [50], [3]]
