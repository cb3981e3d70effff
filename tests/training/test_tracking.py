"""Curves in the real TensorBoard and MLflow."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from training.__main__ import main
from training.config import Config
from training.errors import TrackingError
from training.files import read_json
from training.run import Run
from training.tracking import MLFLOW_RECORD, TENSORBOARD, MLflowTracker, TensorBoardTracker, tracked

MakeConfig = Callable[..., Config]
Curves = Mapping[str, list[tuple[int, float]]]


def _curves(directory: Path) -> Curves:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulators.EventAccumulator(str(directory))
    read.Reload()
    return {name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]}


def test_tensorboard_gets_every_curve_and_a_longer_run_continues_them(make_config: MakeConfig) -> None:
    pytest.importorskip("tensorboard")
    for epochs in (1, 2):
        run = Run(make_config(run={"tensorboard": True, "track_steps": 2}, train={"max_epochs": epochs}))
        run.prepare()
        run.codes()
        progress = run.train()
    curves = _curves(run.config.run.directory / TENSORBOARD)
    names = ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "sequences_per_second")
    for name in names:
        assert [step for step, _ in curves[f"train/{name}"]] == [2, 4, 6, 8]
    for name, key in (("validation/ndcg@10", "ndcg@10"), ("epoch/loss", "loss")):
        assert [step for step, _ in curves[name]] == [4, 8]
        assert [value for _, value in curves[name]] == pytest.approx(
            [entry[key] for entry in progress.history]
        )


def test_what_was_logged_beyond_the_checkpoint_is_hidden(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for resumed_at, steps in ((0, (1, 2, 3, 4)), (2, (3,))):
        tracker = TensorBoardTracker(tmp_path, resumed_at)
        for step in steps:
            tracker.log(step, {"train/loss": resumed_at + step / 8})
        tracker.close("KILLED")
    assert _curves(tmp_path)["train/loss"] == [(1, 0.125), (2, 0.25), (3, 2.375)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries below MLflow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # its database stays open
def test_mlflow_gets_the_run_continues_it_and_may_be_lost(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for epochs in (1, 2):
        run = Run(make_config(run={"mlflow": uri, "track_steps": 2}, train={"max_epochs": epochs}))
        run.prepare()
        run.codes()
        progress = run.train()
    record = run.config.run.directory / MLFLOW_RECORD
    client, known = mlflow.MlflowClient(tracking_uri=uri), read_json(record, "train")["run_id"]
    kept = client.get_run(known)
    assert (kept.info.status, kept.data.params["model.dim"]) == ("FINISHED", "16")
    assert [m.step for m in client.get_metric_history(known, "train/loss")] == [2, 4, 6, 8]
    found = client.get_metric_history(known, "validation/ndcg_at_10")
    assert [m.value for m in found] == pytest.approx([entry["ndcg@10"] for entry in progress.history])

    said: list[str] = []
    tracker = MLflowTracker(uri, record, run.config, 8, said.append)

    def fail(*_: object, **__: object) -> None:
        raise mlflow.exceptions.MlflowException("gone")

    monkeypatch.setattr(tracker._client, "log_batch", fail)
    for step in (10, 12):
        tracker.log(step, {"train/loss": 1.0})
    tracker.close("FINISHED")
    assert said == ["warning: MLflow is lost, training goes on without it: gone"]
    assert client.get_run(known).info.status == "RUNNING"


def test_an_unreachable_server_is_an_error_before_the_first_step(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = make_config(run={"mlflow": "http://127.0.0.1:9"})
    with pytest.raises(TrackingError, match=r"run\.mlflow is 'http://127\.0\.0\.1:9': .*expected a server's"):
        MLflowTracker("http://127.0.0.1:9", config.run.directory / MLFLOW_RECORD, config, 0, print)
    assert not (config.run.directory / MLFLOW_RECORD).exists()


@pytest.mark.parametrize(
    ("package", "setting", "said"),
    [
        ("torch.utils.tensorboard", {"tensorboard": True}, "run.tensorboard is true"),
        ("mlflow", {"mlflow": "sqlite:///x.db"}, "run.mlflow is 'sqlite:///x.db'"),
    ],
)
def test_a_missing_package_is_reported_before_any_work(
    make_config: MakeConfig,
    write_config: Callable[[Config], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    setting: dict[str, object],
    said: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    config = make_config(run=setting)
    assert main(["all", "--config", str(write_config(config))]) == 2
    error = capsys.readouterr().err
    assert f"{said}, which needs the package {package}" in error
    assert "install recjpq[tracking]" in error
    assert not config.run.directory.exists()


def test_only_the_leading_process_has_trackers(make_config: MakeConfig) -> None:
    config = make_config(run={"tensorboard": True, "mlflow": "http://127.0.0.1:9"})
    with tracked(config, 0, print, leads=False) as trackers:
        assert trackers == []
