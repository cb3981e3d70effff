"""Training: it learns, it stops, and it goes on after any interruption to the same weights."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from training.checkpoint import BEST, LAST
from training.config import Config
from training.embedding import ItemEmbedding
from training.errors import CheckpointError, DataError, DivergedError
from training.loss import make_loss
from training.run import Run
from training.train import Interrupted, Step, Trainer

MakeConfig = Callable[..., Config]


def _prepared(config: Config) -> Run:
    run = Run(config)
    run.prepare()
    run.codes()
    return run


def _trainer(run: Run, report: Callable[[str], None] = lambda _: None) -> Trainer:
    return Trainer.of(
        run.config, run.split, model=run._model, scorer=run._scorer, store=run._checkpoints, report=report
    )


def _weights(run: Run, name: str = BEST) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(run.config.run.directory / "checkpoints" / name)["model"]
    return weights


def _assert_same_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


@dataclass
class Stopper:
    """A loss that raises `signal_number` in this process at one step, as Ctrl-C would."""

    loss: Callable[..., Tensor]
    at: int
    signal_number: int
    calls: int = 0

    def __call__(self, *arguments: object) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), self.signal_number)
        return self.loss(*arguments)


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "gbce", "bce"])
def test_every_loss_learns_what_comes_next(make_config: MakeConfig, loss: str) -> None:
    run = _prepared(make_config(train={"loss": loss, "negatives": 16, "max_epochs": 60, "patience": 60}))
    progress = run.train()
    assert progress.best_ndcg > 0.5  # the log is a cycle: guessing gets about 0.1
    assert progress.history[-1]["loss"] < progress.history[0]["loss"]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    runs = [
        _prepared(make_config(run={"directory": tmp_path / str(n), "seed": seed}))
        for n, seed in enumerate((3, 3, 4))
    ]
    for run in runs:
        run.train()
    _assert_same_weights(_weights(runs[0]), _weights(runs[1]))
    assert not torch.equal(_weights(runs[0])["positions.weight"], _weights(runs[2])["positions.weight"])


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 3, 5])  # an epoch is four batches
def test_an_interrupted_run_goes_on_to_the_same_weights(
    make_config: MakeConfig, tmp_path: Path, at: int, signal_number: signal.Signals
) -> None:
    straight = _prepared(make_config(run={"directory": tmp_path / "straight"}))
    straight.train()
    config = make_config(run={"directory": tmp_path / "interrupted"})
    trainer = _trainer(_prepared(config))
    before = signal.getsignal(signal_number)
    with pytest.raises(Interrupted):
        replace(
            trainer, loss=Stopper(make_loss(config.train, np.ones(40, dtype=np.int64)), at, signal_number)
        ).run()
    assert signal.getsignal(signal_number) is before
    said: list[str] = []
    resumed = Run(config)
    _trainer(resumed, said.append).run()
    assert said[0].startswith("resuming at epoch")
    _assert_same_weights(_weights(resumed), _weights(straight))
    _assert_same_weights(_weights(resumed, LAST), _weights(straight, LAST))


def test_a_run_killed_at_any_moment_goes_on_to_the_same_weights(
    make_config: MakeConfig, tmp_path: Path, write_config: Callable[[Config], Path]
) -> None:
    train = {"max_epochs": 4, "checkpoint_minutes": 1e-9}  # a checkpoint after every step
    straight = _prepared(make_config(run={"directory": tmp_path / "straight"}, train=train))
    straight.train()
    killed = Run(make_config(run={"directory": tmp_path / "killed"}, train=train))
    killed.prepare()
    killed.codes()
    command = [sys.executable, "-m", "training", "train", "--config", str(write_config(killed.config))]
    last = tmp_path / "killed" / "checkpoints" / LAST
    for _ in range(2):
        before = last.stat().st_mtime_ns if last.exists() else None
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while process.poll() is None and (not last.exists() or last.stat().st_mtime_ns == before):
                pass  # until it has written one more checkpoint
            process.kill()
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "best validation NDCG@10" in finished.stdout
    _assert_same_weights(_weights(killed), _weights(straight))
    _assert_same_weights(_weights(killed, LAST), _weights(straight, LAST))


def test_bfloat16_learns_what_float32_learns(make_config: MakeConfig, tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        directory = tmp_path / precision
        run = _prepared(make_config(run={"directory": directory}, train={"precision": precision}))
        losses.append([entry["loss"] for entry in run.train().history])
        assert all(weight.dtype == torch.float32 for weight in _weights(run).values())
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_an_epoch_reports_its_speed_and_memory(make_config: MakeConfig) -> None:
    said: list[str] = []
    progress = _trainer(_prepared(make_config(train={"max_epochs": 1})), said.append).run()
    (entry,) = progress.history
    sequences, tokens = (entry[f"{what}_per_second"] * entry["seconds"] for what in ("sequences", "tokens"))
    assert sequences == pytest.approx(60)
    assert tokens == pytest.approx(60 * 6)
    assert entry["peak_rss_bytes"] > 50e6
    assert said[0].endswith(" tokens/s")
    assert said[1].startswith("peak memory ")


def test_training_stops_when_validation_no_longer_improves(make_config: MakeConfig) -> None:
    run = _prepared(make_config(train={"learning_rate": 1e-12, "max_epochs": 50, "patience": 2}))
    progress = run.train()
    assert (progress.best_epoch, progress.epoch) == (1, 3)


def test_a_finished_run_is_not_repeated_and_restart_begins_again(make_config: MakeConfig) -> None:
    run = _prepared(make_config())
    first = run.train()
    written = (run.config.run.directory / "checkpoints" / LAST).stat().st_mtime_ns
    assert Run(run.config).train() == first
    assert (run.config.run.directory / "checkpoints" / LAST).stat().st_mtime_ns == written
    again = Run(run.config).train(restart=True)
    assert (again.step, again.best_ndcg, again.best_epoch) == (first.step, first.best_ndcg, first.best_epoch)
    assert (run.config.run.directory / "checkpoints" / LAST).stat().st_mtime_ns != written


def test_more_epochs_go_on_where_fewer_ended(make_config: MakeConfig, tmp_path: Path) -> None:
    straight = _prepared(make_config(run={"directory": tmp_path / "straight"}))
    straight.train()
    for epochs in (1, 3):
        longer = _prepared(make_config(run={"directory": tmp_path / "longer"}, train={"max_epochs": epochs}))
        assert longer.train().epoch == epochs
    _assert_same_weights(_weights(longer, LAST), _weights(straight, LAST))


def test_a_diverging_loss_stops_and_keeps_the_last_good_checkpoint(make_config: MakeConfig) -> None:
    run = _prepared(make_config())
    trainer = _trainer(run)
    good = make_loss(run.config.train, np.ones(40, dtype=np.int64))
    calls = iter(range(100))

    def diverging(*arguments: Tensor) -> Tensor:
        return good(*arguments) * (float("nan") if next(calls) >= 6 else 1.0)  # type: ignore[arg-type]

    with pytest.raises(DivergedError, match=r"the loss is nan at step 7; .* lower train\.learning_rate"):
        replace(trainer, loss=diverging).run()
    kept = torch.load(run.config.run.directory / "checkpoints" / LAST)
    assert kept["progress"]["step"] == 4
    assert all(weight.isfinite().all() for weight in kept["model"].values())


def test_a_diverging_gradient_stops_before_it_touches_the_weights(make_config: MakeConfig) -> None:
    run = _prepared(make_config())
    good, calls = make_loss(run.config.train, np.ones(40, dtype=np.int64)), iter(range(100))

    def diverging(embedding: ItemEmbedding, states: Tensor, targets: Tensor) -> Tensor:
        if next(calls) == 7:  # the last step of an epoch: validation and a checkpoint would follow
            states.register_hook(lambda gradient: gradient * torch.inf)
        return good(embedding, states, targets)

    with pytest.raises(DivergedError, match=r"the gradient's norm is (nan|inf) at step 8; the last good"):
        replace(_trainer(run), loss=diverging).run()
    assert all(weight.isfinite().all() for weight in run._model.state_dict().values())
    assert torch.load(run.config.run.directory / "checkpoints" / LAST)["progress"]["step"] == 4


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_during_a_validation_is_heard_after_it_the_last_one_too(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, signal_number: signal.Signals
) -> None:
    run = _prepared(make_config(train={"max_epochs": 2}))
    validate = Trainer._validation_metrics

    def signalled(trainer: Trainer) -> dict[str, float]:
        os.kill(os.getpid(), signal_number)
        return validate(trainer)

    monkeypatch.setattr(Trainer, "_validation_metrics", signalled)
    for epoch in (1, 2):
        with pytest.raises(Interrupted):
            Run(run.config).train()
        assert torch.load(run.config.run.directory / "checkpoints" / LAST)["progress"]["epoch"] == epoch
    assert Run(run.config).train().epoch == 2  # finished


def test_the_learning_rate_warms_up_and_falls_along_a_cosine(make_config: MakeConfig) -> None:
    train = {"warmup_steps": 3, "max_epochs": 5}  # of four batches: 20 steps
    constant = _trainer(_prepared(make_config(train=train)))
    assert [constant._rate_at(step) for step in (0, 1, 2, 3, 19)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    cosine = _trainer(_prepared(make_config(train=train | {"schedule": "cosine"})))
    expected = [0.25, 0.5 * (1 + np.cos(np.pi / 4)), 0.5, 0.5 * (1 + np.cos(0.95 * np.pi))]
    assert [cosine._rate_at(step) for step in (0, 5, 10, 19)] == pytest.approx(expected)


def test_the_settings_of_the_shipped_configurations_reach_the_training(make_config: MakeConfig) -> None:
    """A learning rate that falls to nothing, the last weights, whole histories, after an interruption too."""
    train = {"schedule": "cosine", "select": "last", "windows": "all", "max_epochs": 6, "warmup_steps": 2}
    run = _prepared(make_config(train=train | {"weight_decay": 0.1, "gradient_clip": 0.5}))
    trainer = _trainer(run)
    assert trainer.sequences.num_sequences > 60  # eleven or ten items of each of 60 users, six at a time
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 0.1
    rates, norms = [], []
    step = Trainer._step

    def noted(self: Trainer, *arguments: object) -> Step:
        done = step(self, *arguments)  # type: ignore[arg-type]
        rates.append(self.optimizer.param_groups[0]["lr"])
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", noted)
        progress = trainer.run()
    assert max(norms) <= 0.5 + 1e-5
    assert rates == pytest.approx([0.01 * trainer._rate_at(step) for step in range(len(rates))])
    assert progress.best_epoch == progress.epoch == 6
    _assert_same_weights(_weights(run, BEST), _weights(run, LAST))


def test_a_checkpoint_of_another_configuration_is_refused(make_config: MakeConfig) -> None:
    _prepared(make_config()).train()
    other = Run(make_config(train={"learning_rate": 0.02}))
    with pytest.raises(CheckpointError, match=r"last\.pt: made from other data, another configuration"):
        other.train()


def test_bytes_that_are_no_checkpoint_are_refused(make_config: MakeConfig) -> None:
    run = _prepared(make_config())
    run.train()
    path = run.config.run.directory / "checkpoints" / LAST
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"last\.pt: not a checkpoint .* pass --restart to start again"):
        Run(run.config).train()


def test_a_log_with_nothing_to_learn_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    log = tmp_path / "short.csv"
    log.write_text(
        "user_id,item_id,time\n" + "".join(f"u{u},i{u % 20}{e},{e}\n" for u in range(60) for e in (0, 1))
    )
    run = _prepared(make_config(data={"interactions": log, "metadata": None}))
    with pytest.raises(DataError, match="found no user with three or more events"):
        run.train()
