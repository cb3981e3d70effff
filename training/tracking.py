"""Curves of a run in TensorBoard and MLflow, whose packages are the extra `tracking`."""

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from training.config import Config
from training.errors import ConfigError, TrackingError
from training.files import read_json, write_json

TENSORBOARD = "tensorboard"
MLFLOW_RECORD = "mlflow.json"

Report = Callable[[str], None]


class Tracker(Protocol):
    """Where a run's curves go. A run that is resumed continues the curves it had."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve."""
        ...

    def close(self, status: str) -> None:
        """Finish, with MLflow's word for how the run ended."""
        ...


class TensorBoardTracker:
    """Event files below the run's directory; what an interrupted run wrote beyond `step` is hidden."""

    def __init__(self, directory: Path, step: int) -> None:
        summaries = _package("torch.utils.tensorboard", "run.tensorboard is true")
        self._writer = summaries.SummaryWriter(str(directory), purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: str) -> None:  # noqa: ARG002 - TensorBoard knows none
        """See Tracker."""
        self._writer.close()


class MLflowTracker:
    """A run on an MLflow server or in its database; `record` remembers which run it is.

    A server that cannot be reached before the first step is an error. One that is lost later ends the
    tracking, which is reported, and not the training.
    """

    def __init__(self, uri: str, record: Path, config: Config, step: int, report: Report) -> None:
        package = _package("mlflow", f"run.mlflow is {uri!r}")
        self._error, self._report = package.exceptions.MlflowException, report
        try:
            self._client = package.MlflowClient(tracking_uri=uri)
            known = read_json(record, "train") if step and record.exists() else {}
            if known.get("uri") == uri:
                self._run = str(known["run_id"])
                self._client.update_run(self._run, status="RUNNING")
            else:
                self._run = self._create(config)
        except self._error as error:
            raise TrackingError(
                f"run.mlflow is {uri!r}: {error}; expected a server's address or sqlite:///FILE"
            ) from error
        write_json(record, {"uri": uri, "run_id": self._run})
        self._lost = False

    def _create(self, config: Config) -> str:
        name = config.run.name
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        run = self._client.create_run(experiment, run_name=config.run.directory.name).info.run_id
        for section, keys in config.model_dump(mode="json").items():
            for key, value in keys.items():
                self._client.log_param(run, f"{section}.{key}", value)
        return str(run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        entities = importlib.import_module("mlflow.entities")
        now = int(time.time() * 1000)
        names = {name.replace("@", "_at_"): value for name, value in values.items()}  # MLflow takes no @
        metrics = [entities.Metric(name, value, now, step) for name, value in names.items()]
        self._send(lambda: self._client.log_batch(self._run, metrics=metrics))

    def close(self, status: str) -> None:
        """See Tracker."""
        self._send(lambda: self._client.set_terminated(self._run, status))

    def _send(self, call: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            call()
        except self._error as error:
            self._lost = True
            self._report(f"warning: MLflow is lost, training goes on without it: {error}")


def check_tracking(config: Config) -> None:
    """Raise ConfigError if a package that the configuration asks for is missing."""
    if config.run.tensorboard:
        _package("torch.utils.tensorboard", "run.tensorboard is true")
    if config.run.mlflow:
        _package("mlflow", f"run.mlflow is {config.run.mlflow!r}")


@contextmanager
def tracked(config: Config, step: int, report: Report, *, leads: bool) -> Iterator[list[Tracker]]:
    """Yield the configured trackers, of a run that goes on after `step`; only the leading process has any."""
    trackers: list[Tracker] = []
    if leads and config.run.tensorboard:
        trackers.append(TensorBoardTracker(config.run.directory / TENSORBOARD, step))
    if leads and config.run.mlflow:
        record = config.run.directory / MLFLOW_RECORD
        trackers.append(MLflowTracker(config.run.mlflow, record, config, step, report))
    status = "KILLED"
    try:
        yield trackers
        status = "FINISHED"
    finally:
        for tracker in trackers:
            tracker.close(status)


def _package(name: str, asked: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{asked}, which needs the package {error.name}: install recjpq[tracking], or leave it out"
        ) from error
